// What must hold between the records of a manifest, beyond the type of each field.
#pragma once

#include <string>
#include <vector>

#include "manifest.hpp"

namespace effbert::detail {

// One size of the model: the manifest's own, or that of a variant, which selectors have chosen.
struct Size {
  const Manifest &manifest;
  const std::vector<Segment> &segments;
  const std::vector<Golden> &golden;
  std::vector<const Knob *> knobs;
  std::string path;  // "$." or "$.variants[0]."
};

// Each throws ManifestError at the first contradiction; the message starts with its JSON path.
void check_records(const Manifest &manifest);   // files, names, limits, knobs, points, parity
void check_segments(const Size &size);          // axes, chain, outputs, golden rows
void check_variants(const Manifest &manifest);  // and the knobs that select them

}  // namespace effbert::detail
