// Logits to a label that a person can read.
#pragma once

#include <string>

#include "result.hpp"

namespace effbert::detail {

struct Label {
  const char *name;  // lives as long as the result
  double score;      // its probability, or whatever the bundle's activation makes of its logit
};

// The label of a row with the highest score. Throws InputError if the bundle labels no texts, or
// there is no such row.
Label best_label(const Result &result, std::int64_t row);

// The name of a label: the bundle's, or LABEL_n. Throws InputError if there is none of this index.
const std::string &label_name(const Manifest &manifest, std::int64_t index);

}  // namespace effbert::detail
