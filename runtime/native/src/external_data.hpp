// Which other files an ONNX file refers to.
#pragma once

#include <string>

#include "bundle.hpp"

namespace effbert::detail {

// Refuses a segment with numbers in a file other than weights.bin: onnxruntime 1.23 follows such
// references out of the folder that it is given.
//
// Throws BundleError, also for bytes that are no ONNX file.
void require_no_other_files(const std::string &name, const Bytes &model);

}  // namespace effbert::detail
