#include "result.hpp"

#include <algorithm>

#include "run_errors.hpp"

namespace effbert::detail {

bool tokens_exit(const Manifest &manifest) {
  for (const Segment &segment : manifest.segments) {
    for (const Tensor &tensor : segment.outputs) {
      if (tensor.name == "exit_layer") return true;
    }
  }
  return false;
}

const Tensor &output_tensor(const Manifest &manifest, const std::string &name) {
  const std::vector<Tensor> &outputs = manifest.segments[0].outputs;
  const auto found = std::find_if(outputs.begin(), outputs.end(),
                                  [&](const Tensor &tensor) { return tensor.name == name; });
  if (found == outputs.end()) throw BundleError("The first segment has no output '" + name + "'.");
  return *found;
}

Result::Result(std::shared_ptr<const Bundle> opened, std::int64_t row_count, std::int64_t tokens)
    : bundle(std::move(opened)), rows(row_count), length(tokens) {
  const Manifest &manifest = bundle->manifest;
  for (const std::string &name : manifest.outputs) {
    Shape shape;
    for (const Axis &axis : output_tensor(manifest, name).axes) {
      if (axis.kind == Axis::Kind::tokens) {
        throw BundleError("The output '" + name + "' has an axis of unknown length.");
      }
      shape.push_back(axis.kind == Axis::Kind::batch      ? rows
                      : axis.kind == Axis::Kind::sequence ? length
                                                          : axis.size);
    }
    std::vector<float> values(product(shape));
    outputs.push_back({name, std::move(shape), std::move(values)});
  }
  const auto count = static_cast<std::size_t>(rows);
  exits.resize(count);
  layers.resize(tokens_exit(manifest) ? count * static_cast<std::size_t>(length) : count);
  signals.resize(count);
  flags.resize(count);
}

}  // namespace effbert::detail
