#include "predictions.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace effbert::detail {
namespace {

Activation usual_activation(const std::optional<Problem> &problem) {
  if (problem == Problem::multi_label) return Activation::sigmoid;
  if (problem == Problem::regression) return Activation::identity;
  return Activation::softmax;
}

void activate(Activation activation, std::vector<double> &values) {
  if (activation == Activation::sigmoid) {
    for (double &value : values) value = 0.5 * (1 + std::tanh(value / 2));  // without overflow
  } else if (activation == Activation::softmax) {
    const double most = *std::max_element(values.begin(), values.end());
    for (double &value : values) value = std::exp(value - most);
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    for (double &value : values) value /= sum;
  }
}

// Names of labels of bundles that have none.
std::vector<std::string> numbered(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back("LABEL_" + std::to_string(i));
  return names;
}

}  // namespace

const std::string &label_name(const Manifest &manifest, std::int64_t index) {
  constexpr std::size_t most = 65536;
  static const std::vector<std::string> &usual = *new std::vector<std::string>(numbered(most));
  const std::vector<std::string> &names = manifest.labels.empty() ? usual : manifest.labels;
  if (index < 0 || static_cast<std::size_t>(index) >= names.size()) {
    throw InputError("There is no label " + std::to_string(index) + ".");
  }
  return names[static_cast<std::size_t>(index)];
}

Label best_label(const Result &result, std::int64_t row) {
  const Manifest &manifest = result.bundle->manifest;
  if (manifest.task != Task::text_classification) {
    throw InputError("This bundle labels no whole texts; read its outputs.");
  }
  if (row < 0 || row >= result.rows) {
    throw InputError("There is no row " + std::to_string(row) + "; the result has " +
                     std::to_string(result.rows) + ".");
  }
  const Output &logits = result.outputs[0];
  const std::size_t count = product(logits.shape, 1);
  if (count == 0) throw InputError("This bundle has no labels.");
  const auto begin = logits.values.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row) * count);
  std::vector<double> values(begin, begin + static_cast<std::ptrdiff_t>(count));
  activate(manifest.activation.value_or(usual_activation(manifest.problem)), values);
  const auto best = std::max_element(values.begin(), values.end());
  return {label_name(manifest, best - values.begin()).c_str(), *best};
}

}  // namespace effbert::detail
