// The loop over the segments: run, keep the rows that stop, go on with the others.
//
// runtime/chain/loop.py is the same in Python, and docs/bundle.md says it in words.
#pragma once

#include <vector>

#include "batches.hpp"
#include "knobs.hpp"
#include "result.hpp"
#include "segment_times.hpp"
#include "step.hpp"
#include "stopping.hpp"

namespace effbert::detail {

// What one call asks of a chain.
struct Asked {
  const KnobValues &knobs;
  const Deadline &deadline;
  const Stoppable &stopping;
};

// The segments of one variant of a bundle, loaded.
class Chain {
 public:
  Chain(const Bundle &bundle, const std::vector<Segment> &segments, const InputCheck &check,
        Engine &engine);

  // Answers rows; each takes the first exit that fires. `rows` are their indices in the result.
  //
  // Throws NumericalError if a row leaves with an answer that is not finite; it names the first exit
  // with such answers.
  void run(const Batch &batch, const std::vector<std::int64_t> &rows, const Asked &asked,
           Result &result) const;

  // Runs every segment on all rows, and puts the answers of exit e at e * `batch_rows` + row.
  void run_all(const Batch &batch, const std::vector<std::int64_t> &rows, const Asked &asked,
               std::int64_t batch_rows, Result &result) const;

 private:
  using Rows = std::vector<std::int64_t>;
  struct Flow;

  void follow(Flow &flow, const Batch &batch, Rows rows, const Asked &asked, Result &result) const;
  void find_first_fault(const Batch &batch, const Rows &rows, const Asked &asked) const;
  std::vector<Value> advance_in_time(const Step &step, Flow &flow, const Asked &asked) const;
  bool has_time(std::size_t segment, const Flow &flow, std::size_t rows, const Asked &asked) const;
  std::vector<Value> advance(const Step &step, Flow &flow, const Asked &asked) const;
  Value knob_value(const Knob &knob, const FedKnob &fed, std::size_t segment) const;
  void start(Flow &flow, const Batch &batch) const;
  void narrow(Flow &flow, const Rows &keep, const std::vector<bool> &names) const;
  void check_finite(const Step &step, const std::vector<Value> &out, const Flow &flow,
                    const Rows &which, const Rows &rows) const;

  const Manifest &manifest_;
  const Engine &engine_;
  Slots slots_;
  std::vector<Step> steps_;
  mutable SegmentTimes times_;
  bool trim_first_ = false;
};

}  // namespace effbert::detail
