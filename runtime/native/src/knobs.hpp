// Knob values of one call: defaults, then the operating point, then what the call says.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manifest.hpp"

namespace effbert::detail {

// What a caller gives for a knob.
struct AskedKnob {
  std::string name;
  std::vector<double> values;  // one, or as many as the knob takes
  bool integers = false;       // counts of tokens, where a knob takes counts and shares
};

// What graphs are fed for one knob, as bytes of its type.
class FedKnob {
 public:
  const void *at(std::size_t segment) const { return data_.data() + segment * stride_; }

  std::vector<char> data_;
  std::size_t stride_ = 0;  // bytes from one segment's values to the next; 0: all have the same
};

// What graphs are fed, in the order of the manifest's knobs.
using KnobValues = std::vector<FedKnob>;

class Knobs {
 public:
  // Throws InputError if there is no such operating point; "" are the defaults.
  Knobs(const Manifest &manifest, const std::string &operating_point);

  // Values of one call, over those of its or the session's operating point, or over those at which no
  // row leaves early.
  //
  // Throws InputError if a name is unknown, or a value has the wrong kind, range or number.
  KnobValues merged(const std::vector<AskedKnob> &asked, bool over_never,
                    const std::optional<std::string> &operating_point = std::nullopt) const;
  const KnobValues &defaults() const { return defaults_; }

  // The value of a knob that selects a variant.
  double chosen(const KnobValues &values, std::size_t knob) const;

 private:
  KnobValues values_of(const std::string &operating_point) const;
  FedKnob fed(const Knob &knob, const std::vector<Number> &values) const;

  const Manifest &manifest_;
  KnobValues defaults_, never_;
};

}  // namespace effbert::detail
