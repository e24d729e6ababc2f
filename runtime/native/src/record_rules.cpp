#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>
#include <sstream>

#include "fields.hpp"
#include "paths.hpp"
#include "rules.hpp"

namespace effbert::detail {
namespace {

constexpr std::int64_t most_bundle_bytes = std::int64_t{1} << 36;
constexpr double largest_float32 = 3.4028234663852886e38;

std::string shown(double value) {
  std::ostringstream stream;
  stream.imbue(std::locale::classic());
  stream << value;
  return stream.str();
}

std::string indexed(const char *list, std::size_t index) {
  return std::string("$.") + list + "[" + std::to_string(index) + "]";
}

std::string lowered(std::string name) {
  for (char &c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return name;
}

void check_files(const Manifest &manifest) {
  std::set<std::string> lower;
  std::int64_t total = 0;
  for (const auto &[name, file] : manifest.files) {
    const std::string problem = name_problem(name);
    if (!problem.empty()) refuse("$.files", quoted(name) + " " + problem);
    if (lowered(name) == manifest_name) refuse("$.files", quoted(name) + " is the manifest itself");
    if (!lower.insert(lowered(name)).second)
      refuse("$.files", "two names differ only in upper and lower case");
    total += file.size;
  }
  if (total > most_bundle_bytes)
    refuse("$.files", std::to_string(total) + " bytes together, more than the " +
                          std::to_string(most_bundle_bytes) + " allowed");
  if (manifest.tokenizer && manifest.files.count(manifest.tokenizer->file) == 0)
    refuse("$.tokenizer.file", quoted(manifest.tokenizer->file) + " is not in $.files");
}

void check_names(const Manifest &manifest) {
  std::set<std::string> names, points, outputs;
  const auto add = [&](const std::string &name) {
    if (!names.insert(name).second)
      refuse("$", quoted(name) + " names two of the inputs, states and knobs");
  };
  for (const Input &input : manifest.inputs) add(input.name);
  for (const State &state : manifest.states) add(state.name);
  for (const Knob &knob : manifest.knobs) add(knob.name);
  for (const OperatingPoint &point : manifest.operating_points)
    if (!points.insert(point.name).second)
      refuse("$.operating_points", "two are named " + quoted(point.name));
  for (const std::string &name : manifest.outputs)
    if (!outputs.insert(name).second) refuse("$.outputs", "a name occurs twice");
}

void check_first_axes(const std::string &path, const Tensor &tensor) {
  const Axis batch = {Axis::Kind::batch, 0};
  if (tensor.axes.empty() || !(tensor.axes[0] == batch) ||
      std::count(tensor.axes.begin(), tensor.axes.end(), batch) != 1)
    refuse(path, "the first axis of " + quoted(tensor.name) + ", and no other, must be 'batch'");
}

void check_tokens(const Manifest &manifest) {
  const Limits &limits = manifest.limits;
  if (limits.pad_id >= limits.vocab_size)
    refuse("$.limits.pad_id", std::to_string(limits.pad_id) + " is not below vocab_size " +
                                  std::to_string(limits.vocab_size));
  if (limits.min_length > limits.max_length)
    refuse("$.limits.min_length", std::to_string(limits.min_length) + " is above max_length " +
                                      std::to_string(limits.max_length));
  const auto is_ids = [](const Input &input) { return input.name == "input_ids"; };
  if (std::none_of(manifest.inputs.begin(), manifest.inputs.end(), is_ids))
    refuse("$.inputs", "'input_ids' is missing");
  if (!manifest.tokenizer) return;
  if (manifest.tokenizer->vocab_size > limits.vocab_size)
    refuse("$.tokenizer.vocab_size", std::to_string(manifest.tokenizer->vocab_size) +
                                         " tokens, but the model has only " +
                                         std::to_string(limits.vocab_size));
  if (manifest.tokenizer->max_length > limits.max_length)
    refuse("$.tokenizer.max_length", std::to_string(manifest.tokenizer->max_length) +
                                         " is above " + std::to_string(limits.max_length));
  for (const auto &[token, id] : manifest.tokenizer->special_ids)
    if (id >= limits.vocab_size)
      refuse("$.tokenizer.special_ids",
             quoted(token) + " is " + std::to_string(id) + ", outside the vocabulary");
}

bool is_whole(double value) { return std::isfinite(value) && std::floor(value) == value; }

void check_value(const std::string &path, const Knob &knob, double found) {
  const double low = knob.minimum.value, high = knob.maximum.value;
  if (!(low <= found && found <= high))  // also when one of them is nan
    refuse(path, shown(found) + " is outside " + shown(low) + ".." + shown(high));
  const auto is_found = [&](const Number &choice) { return choice.value == found; };
  if (knob.choices && std::none_of(knob.choices->begin(), knob.choices->end(), is_found))
    refuse(path, shown(found) + " is none of the choices");
  if (knob.dtype == DType::int64 && !is_whole(found))
    refuse(path, shown(found) + " is not an integer");
  if (knob.dtype == DType::float32 && std::isfinite(found) && std::abs(found) > largest_float32)
    refuse(path, shown(found) + " is too large for float32");
}

void check_knob_value(const std::string &path, const Knob &knob, const KnobValue &value,
                      std::size_t exits) {
  if (value.is_list) {
    const std::size_t count = knob.count ? static_cast<std::size_t>(*knob.count) : exits;
    if (!knob.per_exit && !knob.count) refuse(path, "the knob takes one value, not a list");
    if (value.values.size() != count)
      refuse(path, std::to_string(value.values.size()) + " values for " + std::to_string(count) +
                       (knob.count ? " layers" : " exits"));
  }
  for (const Number &item : value.values) check_value(path, knob, item.value);
}

void check_knobs(const Manifest &manifest) {
  for (std::size_t k = 0; k < manifest.states.size(); ++k) {
    const State &state = manifest.states[k];
    if (state.dtype != DType::float32 && !is_whole(state.initial.value))
      refuse(indexed("states", k) + ".initial", shown(state.initial.value) + " is not an integer");
  }
  for (std::size_t k = 0; k < manifest.knobs.size(); ++k) {
    const Knob &knob = manifest.knobs[k];
    const std::string path = indexed("knobs", k);
    if (knob.unit_tokens && !knob.count)
      refuse(path + ".count", "lengths need one value an encoder layer");
    if (knob.count && knob.per_exit)
      refuse(path + ".count", "a knob has values for exits or for layers, not for both");
    check_value(path + ".minimum", knob, knob.minimum.value);
    check_value(path + ".maximum", knob, knob.maximum.value);
    check_value(path + ".never", knob, knob.never.value);
    check_knob_value(path + ".default", knob, knob.standard, manifest.segments.size());
  }
}

void check_points(const Manifest &manifest) {
  for (std::size_t k = 0; k < manifest.operating_points.size(); ++k)
    for (const auto &[name, value] : manifest.operating_points[k].knobs) {
      const std::string path = indexed("operating_points", k) + ".knobs." + name;
      const std::string &wanted = name;
      const auto knob = std::find_if(manifest.knobs.begin(), manifest.knobs.end(),
                                     [&](const Knob &each) { return each.name == wanted; });
      if (knob == manifest.knobs.end()) refuse(path, "there is no such knob");
      check_knob_value(path, *knob, value, manifest.segments.size());
    }
}

void check_parity(const Manifest &manifest) {
  if (!manifest.parity) return;
  const std::size_t values = manifest.parity->max_abs_diff.size();
  if (values != manifest.segments.size())
    refuse("$.parity.max_abs_diff", std::to_string(values) + " values for " +
                                        std::to_string(manifest.segments.size()) + " exits");
  const auto atol = manifest.parity->atol;
  if (atol && !(*atol > 0 && std::isfinite(*atol)))
    refuse("$.parity.atol", shown(*atol) + " is not a positive number");
}

}  // namespace

void check_records(const Manifest &manifest) {
  check_files(manifest);
  check_names(manifest);
  for (const Input &input : manifest.inputs) check_first_axes("$.inputs", input);
  for (const State &state : manifest.states) check_first_axes("$.states", state);
  check_tokens(manifest);
  check_knobs(manifest);
  check_points(manifest);
  check_parity(manifest);
}

}  // namespace effbert::detail
