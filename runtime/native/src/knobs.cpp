#include "knobs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "value.hpp"

namespace effbert::detail {
namespace {

std::string spell(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.12g", value);
  return text;
}

std::string spell(const Number &number) {
  return number.text.empty() ? spell(number.value) : number.text;
}

std::string allowed_values(const Knob &knob) {
  if (!knob.choices) {
    return std::string(knob.dtype == DType::int64 ? "an integer" : "a number") + " from " +
           spell(knob.minimum) + " to " + spell(knob.maximum) + " (" + spell(knob.never) +
           " never exits early)";
  }
  std::string text = "one of ";
  for (std::size_t i = 0; i < knob.choices->size(); ++i) {
    text += (i ? ", " : "") + spell((*knob.choices)[i]);
  }
  return text;
}

[[noreturn]] void refuse(const Knob &knob, double value) {
  throw InputError("Knob '" + knob.name + "': got " + spell(value) + ", expected " +
                   allowed_values(knob) + ".");
}

// A number as the knob's type holds it.
double rounded(const Knob &knob, double value) {
  return knob.dtype == DType::float32 ? static_cast<double>(static_cast<float>(value)) : value;
}

void append(std::vector<char> &data, DType dtype, double value) {
  const std::size_t size = data.size();
  data.resize(size + width(dtype));
  if (dtype == DType::int64) {
    const auto integer = static_cast<std::int64_t>(value);
    std::memcpy(data.data() + size, &integer, sizeof integer);
  } else {
    const auto real = static_cast<float>(value);
    std::memcpy(data.data() + size, &real, sizeof real);
  }
}

void append_checked(std::vector<char> &data, const Knob &knob, double value) {
  if (!(knob.minimum.value <= value && value <= knob.maximum.value)) refuse(knob, value);  // NaN too
  if (knob.dtype == DType::int64 && (!std::isfinite(value) || std::floor(value) != value ||
                                     std::fabs(value) >= 9.2e18)) {
    refuse(knob, value);
  }
  if (std::isfinite(value) && !std::isfinite(rounded(knob, value))) refuse(knob, value);
  if (knob.choices) {
    const auto same = [&](const Number &choice) {
      return rounded(knob, choice.value) == rounded(knob, value);
    };
    if (std::none_of(knob.choices->begin(), knob.choices->end(), same)) refuse(knob, value);
  }
  append(data, knob.dtype, value);
}

// Lengths, one an encoder layer: counts of tokens become the count plus a half, shares stay.
void append_lengths(std::vector<char> &data, const Knob &knob, const std::vector<Number> &values) {
  const auto is_count = [](const Number &number) { return number.integer; };
  const bool counts = std::any_of(values.begin(), values.end(), is_count);
  if (counts && !std::all_of(values.begin(), values.end(), is_count)) {
    throw InputError("Knob '" + knob.name +
                     "': got counts and shares in one list, expected integers only or shares only.");
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = values[i].value;
    if (!(value > 0 && value <= (counts ? knob.maximum.value : 1.0)) ||
        (counts && std::floor(value) != value)) {
      throw InputError("Knob '" + knob.name + "': got " + spell(value) +
                       ", expected a count of tokens (an integer from 1 to " + spell(knob.maximum) +
                       ") or a share above 0 and up to 1.0, which drops none.");
    }
    if (i && value > values[i - 1].value) {
      throw InputError("Knob '" + knob.name + "': got " + spell(value) + " for layer " +
                       std::to_string(i + 1) + " after " + spell(values[i - 1].value) +
                       ", but dropped tokens do not come back; lengths must not grow.");
    }
    append(data, knob.dtype, counts ? value + 0.5 : value);
  }
}

}  // namespace

Knobs::Knobs(const Manifest &manifest, const std::string &operating_point) : manifest_(manifest) {
  defaults_ = values_of(operating_point);
  for (const Knob &knob : manifest.knobs) never_.push_back(fed(knob, {knob.never}));
}

KnobValues Knobs::values_of(const std::string &operating_point) const {
  const Named<KnobValue> *point = nullptr;
  for (const OperatingPoint &each : manifest_.operating_points) {
    if (each.name == operating_point) point = &each.knobs;
  }
  if (!operating_point.empty() && point == nullptr) {
    std::string known;
    for (const OperatingPoint &each : manifest_.operating_points) {
      known += (known.empty() ? "'" : ", '") + each.name + "'";
    }
    throw InputError("Unknown operating point '" + operating_point + "'; this bundle has: " +
                     (known.empty() ? "none" : known) + ".");
  }
  KnobValues values;
  for (const Knob &knob : manifest_.knobs) {
    const KnobValue *value = &knob.standard;
    if (!operating_point.empty()) {
      for (const auto &[name, chosen] : *point) {
        if (name == knob.name) value = &chosen;
      }
    }
    values.push_back(fed(knob, value->values));
  }
  return values;
}

FedKnob Knobs::fed(const Knob &knob, const std::vector<Number> &values) const {
  FedKnob fed;
  const std::size_t exits = manifest_.segments.size();
  if (knob.count) {
    const auto count = static_cast<std::size_t>(*knob.count);
    std::vector<Number> all = values.size() == 1 ? std::vector<Number>(count, values[0]) : values;
    if (all.size() != count) {
      throw InputError("Knob '" + knob.name + "': got " + std::to_string(all.size()) +
                       " values, expected one or " + std::to_string(count) + ", one an encoder layer.");
    }
    if (knob.unit_tokens) {
      append_lengths(fed.data_, knob, all);
    } else {
      for (const Number &value : all) append_checked(fed.data_, knob, value.value);
    }
    return fed;
  }
  if (values.size() != 1) {
    if (!knob.per_exit) {
      throw InputError("Knob '" + knob.name + "': got a list, expected " + allowed_values(knob) + ".");
    }
    if (values.size() != exits) {
      throw InputError("Knob '" + knob.name + "': got " + std::to_string(values.size()) +
                       " values, expected one value or " + std::to_string(exits) + ", one an exit.");
    }
    fed.stride_ = width(knob.dtype);
  }
  for (const Number &value : values) append_checked(fed.data_, knob, value.value);
  return fed;
}

KnobValues Knobs::merged(const std::vector<AskedKnob> &asked, bool over_never,
                         const std::optional<std::string> &operating_point) const {
  KnobValues values = over_never ? never_ : operating_point ? values_of(*operating_point) : defaults_;
  for (const AskedKnob &each : asked) {
    std::size_t place = 0;
    while (place < manifest_.knobs.size() && manifest_.knobs[place].name != each.name) ++place;
    if (place == manifest_.knobs.size()) {
      std::string known;
      for (const Knob &knob : manifest_.knobs) known += (known.empty() ? "" : ", ") + knob.name;
      throw InputError("Unknown knob '" + each.name + "'; this bundle has: " +
                       (known.empty() ? "none" : known) + ".");
    }
    std::vector<Number> numbers;
    for (const double value : each.values) numbers.push_back({value, each.integers, ""});
    values[place] = fed(manifest_.knobs[place], numbers);
  }
  return values;
}

double Knobs::chosen(const KnobValues &values, std::size_t knob) const {
  const void *data = values[knob].at(0);
  if (manifest_.knobs[knob].dtype == DType::int64) {
    std::int64_t value;
    std::memcpy(&value, data, sizeof value);
    return static_cast<double>(value);
  }
  float value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

}  // namespace effbert::detail
