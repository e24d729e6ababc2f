#include "chain.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "effbert.h"
#include "run_errors.hpp"

namespace effbert::detail {
namespace {

std::vector<std::int64_t> all_of(std::int64_t rows) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(rows));
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

// Puts the answers of some rows of what a step gave at these rows of the result.
void put(const Step &step, const std::vector<Value> &out, const std::vector<std::int64_t> &which,
         const std::vector<std::int64_t> &rows, Result &result) {
  const bool by_token = result.layers.size() != result.exits.size();
  const Shape layers = {result.rows, by_token ? result.length : 1};
  for (const std::int64_t each : which) {
    const auto from = static_cast<std::size_t>(each), to = static_cast<std::size_t>(rows[from]);
    for (const Step::Answer &answer : step.answers) {
      Output &output = result.outputs[answer.index];
      copy_row(out[answer.output], from, output.values, output.shape, to);
    }
    result.exits[to] = static_cast<std::int64_t>(step.index);
    result.signals[to] = out[step.signal].data<float>()[from];
    if (step.exit_layer != nothing) {
      copy_row(out[step.exit_layer], from, result.layers, layers, to);
    } else {
      const std::size_t columns = product(layers, 1);
      std::fill_n(result.layers.begin() + static_cast<std::ptrdiff_t>(to * columns), columns,
                  step.segment.layer);
    }
  }
}

}  // namespace

// The tensors of a call, by slot.
struct Chain::Flow {
  std::vector<Value> tensors;
  std::int64_t rows = 0, length = 0;  // of the batch it started from
};

Chain::Chain(const Bundle &bundle, const std::vector<Segment> &segments, const InputCheck &check,
             Engine &engine)
    : manifest_(bundle.manifest),
      engine_(engine),
      slots_(number_tensors(manifest_, segments, check)),
      times_(segments) {
  Bytes weights;
  const bool shared = manifest_.files.count(weights_name) != 0;
  if (shared) weights = bundle.read(weights_name);
  for (const Segment &segment : segments) {
    Graph graph = engine.load(segment.file, bundle.read(segment.file), shared ? &weights : nullptr);
    steps_.emplace_back(steps_.size(), segment, manifest_, slots_, std::move(graph));
  }
  find_what_is_read_later(steps_, slots_);
  // Answers by token keep their columns.
  trim_first_ = manifest_.padding_free;
  for (const Step &step : steps_) {
    for (const Step::Answer &answer : step.answers) trim_first_ = trim_first_ && !answer.has_sequence;
    if (step.exit_layer != nothing) trim_first_ = false;
  }
}

void Chain::run(const Batch &batch, const Rows &rows, const Asked &asked, Result &result) const {
  Flow flow;
  try {
    follow(flow, batch, rows, asked, result);
  } catch (const NumericalError &) {
    flow.tensors.clear();
    find_first_fault(batch, rows, asked);
    throw;
  }
}

void Chain::follow(Flow &flow, const Batch &batch, Rows rows, const Asked &asked,
                   Result &result) const {
  start(flow, batch);
  if (trim_first_) {
    const std::int64_t *mask = flow.tensors[slots_.mask].data<std::int64_t>();
    bool last_is_padding = true;
    for (std::int64_t row = 1; row <= batch.rows; ++row) {
      last_is_padding = last_is_padding && mask[row * batch.length - 1] == 0;
    }
    if (last_is_padding) narrow(flow, all_of(batch.rows), std::vector<bool>(slots_.names.size(), true));
  }
  for (const Step &step : steps_) {
    asked.stopping.check();
    const std::vector<Value> out = advance_in_time(step, flow, asked);
    const auto *done = out[step.exit].data<unsigned char>();  // not bool: a graph may write 2
    const bool last = &step == &steps_.back();
    Rows leave, keep;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(rows.size()); ++i) {
      (last || done[i] ? leave : keep).push_back(i);
    }
    if (!keep.empty() && !has_time(step.index + 1, flow, keep.size(), asked)) {
      for (const std::int64_t i : keep) {
        result.flags[static_cast<std::size_t>(rows[static_cast<std::size_t>(i)])] |= EFFBERT_DEADLINE;
      }
      leave = all_of(static_cast<std::int64_t>(rows.size()));
      keep.clear();
    }
    check_finite(step, out, flow, leave, rows);
    put(step, out, leave, rows, result);
    if (keep.empty()) return;
    if (leave.empty()) continue;
    narrow(flow, keep, step.later);
    Rows left;
    for (const std::int64_t i : keep) left.push_back(rows[static_cast<std::size_t>(i)]);
    rows = std::move(left);
  }
}

void Chain::run_all(const Batch &batch, const Rows &rows, const Asked &asked, std::int64_t batch_rows,
                    Result &result) const {
  Flow flow;
  start(flow, batch);
  const Rows which = all_of(batch.rows);
  for (const Step &step : steps_) {
    asked.stopping.check();
    const std::vector<Value> out = advance(step, flow, asked);
    check_finite(step, out, flow, which, rows);
    Rows places = rows;
    for (std::int64_t &row : places) row += static_cast<std::int64_t>(step.index) * batch_rows;
    put(step, out, which, places, result);
  }
}

// Throws NumericalError for the first exit whose answers are not finite, whatever rows left before.
void Chain::find_first_fault(const Batch &batch, const Rows &rows, const Asked &asked) const {
  Flow flow;
  start(flow, batch);
  for (const Step &step : steps_) {
    asked.stopping.check();
    check_finite(step, advance(step, flow, asked), flow, all_of(batch.rows), rows);
  }
}

// Whether rows that go on may run the next segment.
bool Chain::has_time(std::size_t segment, const Flow &flow, std::size_t rows, const Asked &asked) const {
  if (asked.deadline.never()) return true;
  return times_.fits(segment, static_cast<std::int64_t>(rows),
                     flow.tensors[slots_.mask].shape()[1], asked.deadline.left());
}

// As `advance`; under a deadline it is learned how long that takes.
std::vector<Value> Chain::advance_in_time(const Step &step, Flow &flow, const Asked &asked) const {
  if (asked.deadline.never()) return advance(step, flow, asked);
  const Shape shape = flow.tensors[slots_.mask].shape();
  const double before = asked.deadline.left();
  std::vector<Value> out = advance(step, flow, asked);
  times_.learn(step.index, shape[0], shape[1], before - asked.deadline.left());
  return out;
}

// Runs a segment and moves its carries into the tensors.
std::vector<Value> Chain::advance(const Step &step, Flow &flow, const Asked &asked) const {
  std::vector<Value> fed;
  fed.reserve(step.sources.size());
  for (const Step::Source &source : step.sources) {
    fed.push_back(source.slot != nothing
                      ? flow.tensors[source.slot]
                      : knob_value(manifest_.knobs[source.knob], asked.knobs[source.knob], step.index));
  }
  const std::int64_t rows = flow.tensors[slots_.mask].shape()[0];
  std::vector<Value> out;
  try {
    out = step.graph.run(step.input_names, fed, step.output_names, asked.stopping.options());
  } catch (const EngineError &) {
    asked.stopping.check();  // a run that was stopped fails
    throw;
  }
  step.check_outputs(out, rows, flow.length);
  for (const Step::Carry &carry : step.carries) {
    if (step.later[carry.slot]) flow.tensors[carry.slot] = out[carry.output];
  }
  return out;
}

Value Chain::knob_value(const Knob &knob, const FedKnob &fed, std::size_t segment) const {
  Shape shape;
  if (knob.count) shape.push_back(*knob.count);
  return Value(engine_.library(), engine_.memory(), knob.dtype, std::move(shape), fed.at(segment));
}

// What the first segment may read.
void Chain::start(Flow &flow, const Batch &batch) const {
  const Library &library = engine_.library();
  flow.rows = batch.rows;
  flow.length = batch.length;
  flow.tensors.resize(slots_.names.size());
  for (std::size_t i = 0; i < batch.columns.size(); ++i) {
    flow.tensors[i] = Value(library, engine_.memory(), DType::int64, {batch.rows, batch.length},
                            batch.columns[i].data());
  }
  for (const State &state : manifest_.states) {
    Shape shape;
    for (const Axis &axis : state.axes) {
      shape.push_back(axis.kind == Axis::Kind::batch      ? batch.rows
                      : axis.kind == Axis::Kind::sequence ? batch.length
                                                          : axis.size);
    }
    Value value(library, state.dtype, shape);
    const double initial = state.initial.value;
    if (state.dtype == DType::int64) {
      const bool fits = std::fabs(initial) < 9.2e18;
      const auto integer = fits ? static_cast<std::int64_t>(initial) : INT64_MIN;  // as numpy has it
      std::fill_n(value.writable<std::int64_t>(), product(shape), integer);
    } else if (state.dtype == DType::float32) {
      std::fill_n(value.writable<float>(), product(shape), static_cast<float>(initial));
    } else {
      std::fill_n(value.writable<bool>(), product(shape), initial != 0);
    }
    flow.tensors[slots_.of(state.name)] = std::move(value);
  }
}

// Keeps some rows of the tensors, and drops columns that are padding in all of them.
void Chain::narrow(Flow &flow, const Rows &keep, const std::vector<bool> &names) const {
  const Value mask = flow.tensors[slots_.mask];
  const std::int64_t length = mask.shape()[1];
  std::int64_t wanted = length;
  if (manifest_.padding_free) {
    wanted = 0;
    for (const std::int64_t row : keep) {
      const std::int64_t *columns = mask.data<std::int64_t>() + row * length;
      for (std::int64_t i = length; i > wanted; --i) {
        if (columns[i - 1] != 0) wanted = i;
      }
    }
    wanted = std::max<std::int64_t>(wanted, manifest_.limits.min_length);
  }
  for (std::size_t i = 0; i < flow.tensors.size(); ++i) {
    Value &value = flow.tensors[i];
    if (!value) continue;
    if (!names[i]) {
      value = Value();
      continue;
    }
    // A segment that drops tokens leaves tensors of another length; they are no longer column by
    // column what the mask describes.
    const std::size_t axis = slots_.sequence[i];
    const bool by_column = axis != 0 && value.shape()[axis] == length;
    value = packed(engine_.library(), value, keep, by_column ? axis : 0, wanted);
  }
}

void Chain::check_finite(const Step &step, const std::vector<Value> &out, const Flow &flow,
                         const Rows &which, const Rows &rows) const {
  const Value &mask = flow.tensors[slots_.mask];
  for (const Step::Answer &answer : step.answers) {
    const Value &value = out[answer.output];
    const std::size_t row_size = product(value.shape(), 1);
    const bool masked = answer.has_sequence && mask.shape()[1] == value.shape()[1];
    const std::size_t column_size = masked ? product(value.shape(), 2) : 1;
    Rows bad;
    for (const std::int64_t each : which) {
      const auto row = static_cast<std::size_t>(each);
      const float *numbers = value.data<float>() + row * row_size;
      for (std::size_t i = 0; i < row_size; ++i) {
        if (std::isfinite(numbers[i])) continue;
        const auto length = static_cast<std::size_t>(mask.shape()[1]);
        if (masked && mask.data<std::int64_t>()[row * length + i / column_size] == 0) continue;
        bad.push_back(rows[row]);
        break;
      }
    }
    if (bad.empty()) continue;
    throw NumericalError(bad, manifest_.outputs[answer.index] + " that are not finite at exit " +
                                  std::to_string(step.index) + " (layer " +
                                  std::to_string(step.segment.layer) +
                                  "); the weights or the precision of this bundle are broken.");
  }
}

}  // namespace effbert::detail
