// What the chain knows of one segment.
#pragma once

#include <string>
#include <vector>

#include "graph.hpp"
#include "inputs.hpp"

namespace effbert::detail {

constexpr std::size_t nothing = static_cast<std::size_t>(-1);

// The tensors that flow through a chain, by number.
struct Slots {
  std::vector<std::string> names;
  std::vector<std::size_t> sequence;  // which axis is the sequence; 0: none
  std::size_t mask = 0;

  std::size_t of(const std::string &name) const;  // `nothing` if there is none
};

// Inputs first, in their order, then states, then what segments carry.
Slots number_tensors(const Manifest &manifest, const std::vector<Segment> &segments,
                     const InputCheck &check);

struct Step {
  struct Source {
    std::size_t slot = nothing;  // a tensor, or else
    std::size_t knob = nothing;  // a knob
  };
  struct Carry {
    std::size_t slot, output;
  };
  struct Answer {
    std::size_t output;  // of the segment
    std::size_t index;   // in the manifest's outputs
    bool has_sequence;
  };

  Step(std::size_t number, const Segment &record, const Manifest &manifest, const Slots &slots,
       Graph loaded);

  // Throws EngineError if an output that the host looks at is not what the manifest says.
  void check_outputs(const std::vector<Value> &out, std::int64_t rows, std::int64_t length) const;

  std::size_t index;
  const Segment &segment;
  Graph graph;
  std::vector<const char *> input_names, output_names;
  std::vector<Source> sources;
  std::vector<Carry> carries;
  std::vector<Answer> answers;
  std::size_t exit = nothing, signal = nothing, exit_layer = nothing;  // outputs
  std::vector<bool> later;  // slot -> whether it is read after this step
};

// Fills `later` of all steps of a chain.
void find_what_is_read_later(std::vector<Step> &steps, const Slots &slots);

}  // namespace effbert::detail
