#include "step.hpp"

#include <algorithm>

#include "run_errors.hpp"

namespace effbert::detail {
namespace {

std::size_t sequence_axis(const Tensor &tensor) {
  for (std::size_t i = 0; i < tensor.axes.size(); ++i) {
    if (tensor.axes[i].kind == Axis::Kind::sequence) return i;
  }
  return 0;  // the first axis is the batch
}

std::size_t find_output(const Segment &segment, const std::string &name) {
  for (std::size_t i = 0; i < segment.outputs.size(); ++i) {
    if (segment.outputs[i].name == name) return i;
  }
  return nothing;
}

bool fits(const Value &value, const Tensor &tensor, std::int64_t rows, std::int64_t longest) {
  const Shape &shape = value.shape();
  if (value.dtype() != tensor.dtype || shape.size() != tensor.axes.size()) return false;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const Axis &axis = tensor.axes[i];
    if (axis.kind == Axis::Kind::batch && shape[i] != rows) return false;
    if (axis.kind == Axis::Kind::sequence && shape[i] > longest) return false;
    if (axis.kind == Axis::Kind::fixed && shape[i] != axis.size) return false;
  }
  return true;
}

}  // namespace

std::size_t Slots::of(const std::string &name) const {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? nothing : static_cast<std::size_t>(found - names.begin());
}

Slots number_tensors(const Manifest &manifest, const std::vector<Segment> &segments,
                     const InputCheck &check) {
  Slots slots;
  const auto add = [&](const std::string &name, std::size_t axis) {
    if (slots.of(name) != nothing) return;
    slots.names.push_back(name);
    slots.sequence.push_back(axis);
  };
  for (const std::string &name : check.names()) {
    std::size_t axis = 1;
    for (const Input &input : manifest.inputs) {
      if (input.name == name && name != mask_name) axis = sequence_axis(input);
    }
    add(name, axis);
  }
  for (const State &state : manifest.states) add(state.name, sequence_axis(state));
  for (const Segment &segment : segments) {
    for (const auto &[name, source] : segment.carries) {
      add(name, sequence_axis(segment.outputs[find_output(segment, source)]));
    }
  }
  slots.mask = slots.of(mask_name);
  return slots;
}

Step::Step(std::size_t number, const Segment &record, const Manifest &manifest, const Slots &slots,
           Graph loaded)
    : index(number), segment(record), graph(std::move(loaded)) {
  for (const Tensor &input : segment.inputs) {
    input_names.push_back(input.name.c_str());
    Source source;
    for (std::size_t k = 0; k < manifest.knobs.size(); ++k) {
      if (manifest.knobs[k].name == input.name) source.knob = k;
    }
    if (source.knob == nothing) source.slot = slots.of(input.name);
    sources.push_back(source);
  }
  for (const Tensor &output : segment.outputs) output_names.push_back(output.name.c_str());
  for (const auto &[name, source] : segment.carries) {
    carries.push_back({slots.of(name), find_output(segment, source)});
  }
  for (std::size_t i = 0; i < manifest.outputs.size(); ++i) {
    const std::size_t output = find_output(segment, manifest.outputs[i]);
    answers.push_back({output, i, sequence_axis(segment.outputs[output]) != 0});
  }
  exit = find_output(segment, "exit");
  signal = find_output(segment, "signal");
  exit_layer = find_output(segment, "exit_layer");
}

void Step::check_outputs(const std::vector<Value> &out, std::int64_t rows,
                         std::int64_t length) const {
  const auto require = [&](std::size_t output) {
    if (fits(out[output], segment.outputs[output], rows, length)) return;
    throw EngineError(segment.file + " gives '" + segment.outputs[output].name +
                      "' with another type or shape than the manifest says; export the bundle again.");
  };
  require(exit);
  require(signal);
  if (exit_layer != nothing) require(exit_layer);
  for (const Answer &answer : answers) require(answer.output);
  for (const Carry &carry : carries) require(carry.output);
}

void find_what_is_read_later(std::vector<Step> &steps, const Slots &slots) {
  std::vector<bool> later(slots.names.size());
  later[slots.mask] = true;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    step->later = later;
    for (const Step::Carry &carry : step->carries) later[carry.slot] = false;
    for (const Step::Source &source : step->sources) {
      if (source.slot != nothing) later[source.slot] = true;
    }
    later[slots.mask] = true;
  }
}

}  // namespace effbert::detail
