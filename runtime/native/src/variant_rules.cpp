#include <algorithm>
#include <map>
#include <set>

#include "fields.hpp"
#include "rules.hpp"

namespace effbert::detail {
namespace {

using Values = std::map<std::string, Number>;  // of the selectors
using Answers = std::map<std::string, std::pair<DType, std::vector<Axis>>>;

void check_choices(const std::string &path, const Knob &knob) {
  const std::vector<Number> &choices = *knob.choices;
  for (std::size_t k = 0; k < choices.size(); ++k)
    if (!(choices[k].value == choices[k].value) ||
        (k > 0 && !(choices[k - 1].value < choices[k].value)))
      refuse(path + ".choices", "expected numbers that rise");
  const double largest = choices.back().value;
  if (knob.minimum.value != choices[0].value || knob.maximum.value != largest)
    refuse(path + ".choices", "minimum and maximum are not the first and the last of them");
  if (knob.standard.is_list || knob.standard.values[0].value != largest)
    refuse(path + ".default",
           "$.segments is the largest variant, so this must be the largest choice");
  if (knob.never.value != largest) refuse(path + ".never", "expected the largest choice");
  if (knob.per_exit || knob.count || knob.unit_tokens)
    refuse(path + ".choices",
           "a variant is selected by one number, not by one an exit or layer");
}

std::vector<const Knob *> selectors(const Manifest &manifest) {
  std::vector<const Knob *> found;
  for (const Knob &knob : manifest.knobs)
    if (knob.choices) found.push_back(&knob);
  return found;
}

// The selectors' values of every variant, the default variant first.
std::vector<Values> check_combinations(const Manifest &manifest) {
  const std::vector<const Knob *> knobs = selectors(manifest);
  std::vector<Values> found(1);
  for (const Knob *knob : knobs) found[0][knob->name] = knob->standard.values[0];
  for (std::size_t k = 0; k < manifest.variants.size(); ++k) {
    const std::string path = "$.variants[" + std::to_string(k) + "].knobs";
    const Values values(manifest.variants[k].knobs.begin(), manifest.variants[k].knobs.end());
    const bool same_names = std::equal(
        values.begin(), values.end(), found[0].begin(), found[0].end(),
        [](const auto &a, const auto &b) { return a.first == b.first; });
    if (!same_names) refuse(path, "expected a value for each knob with choices");
    if (std::find(found.begin(), found.end(), values) != found.end())
      refuse(path, "it selects an earlier variant");
    found.push_back(values);
  }
  for (const Knob *knob : knobs) {
    const auto is_choice = [&](const Values &values) {
      const auto &all = *knob->choices;
      return std::find(all.begin(), all.end(), values.at(knob->name)) != all.end();
    };
    const auto is_used = [&](const Number &choice) {
      return std::any_of(found.begin(), found.end(), [&](const Values &values) {
        return values.at(knob->name) == choice;
      });
    };
    if (!std::all_of(found.begin(), found.end(), is_choice) ||
        !std::all_of(knob->choices->begin(), knob->choices->end(), is_used))
      refuse("$.knobs", "the choices of " + quoted(knob->name) +
                            " are not the values that the variants have");
  }
  return found;
}

void check_points(const Manifest &manifest, const std::vector<Values> &found) {
  for (std::size_t k = 0; k < manifest.operating_points.size(); ++k) {
    Values chosen = found[0];
    bool known = true;
    for (const auto &[name, value] : manifest.operating_points[k].knobs) {
      const auto place = chosen.find(name);
      if (place == chosen.end()) continue;
      known = known && !value.is_list;
      if (known) place->second = value.values[0];
    }
    if (!known || std::find(found.begin(), found.end(), chosen) == found.end())
      refuse("$.operating_points[" + std::to_string(k) + "].knobs", "there is no such variant");
  }
}

// Of each exit what answers it gives.
std::vector<Answers> answers_of(const Manifest &manifest, const std::vector<Segment> &segments) {
  std::set<std::string> names(manifest.outputs.begin(), manifest.outputs.end());
  names.insert("exit_layer");
  std::vector<Answers> found;
  for (const Segment &segment : segments) {
    found.emplace_back();
    for (const Tensor &tensor : segment.outputs)
      if (names.count(tensor.name) > 0) found.back()[tensor.name] = {tensor.dtype, tensor.axes};
  }
  return found;
}

}  // namespace

void check_variants(const Manifest &manifest) {
  std::vector<const Knob *> all, common;
  for (std::size_t k = 0; k < manifest.knobs.size(); ++k) {
    const Knob &knob = manifest.knobs[k];
    all.push_back(&knob);
    if (knob.choices) check_choices("$.knobs[" + std::to_string(k) + "]", knob);
    else common.push_back(&knob);
  }
  check_segments({manifest, manifest.segments, manifest.golden, all, "$."});
  check_points(manifest, check_combinations(manifest));
  const auto expected = answers_of(manifest, manifest.segments);
  for (std::size_t k = 0; k < manifest.variants.size(); ++k) {
    const Variant &variant = manifest.variants[k];
    const std::string path = "$.variants[" + std::to_string(k) + "].";
    if (variant.segments.size() != manifest.segments.size())
      refuse(path + "segments", std::to_string(variant.segments.size()) +
                                    " exits, but $.segments has " +
                                    std::to_string(manifest.segments.size()));
    if (answers_of(manifest, variant.segments) != expected)
      refuse(path + "segments", "the answers have other types or axes than those of $.segments");
    check_segments({manifest, variant.segments, variant.golden, common, path});
  }
}

}  // namespace effbert::detail
