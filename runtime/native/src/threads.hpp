// How many threads compute: what this process, not its machine, may use.
#pragma once

namespace effbert::detail {

// The physical cores, or fewer where the affinity or the control groups of the process allow fewer.
int usual_threads();

}  // namespace effbert::detail
