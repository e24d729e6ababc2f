#include "unicode.hpp"

#include <algorithm>
#include <map>
#include <string>

namespace effbert::detail {
namespace {

// Base64 of what tools/native_tables.py describes.
constexpr const char *const lines[] = {
#include "unicode_tables.inc"
};

constexpr char32_t points = 0x110000;

// Hangul syllables are composed by counting (Unicode, section 3.12).
constexpr char32_t syllables = 0xAC00, leads = 0x1100, vowels = 0x1161, tails = 0x11A7;
constexpr char32_t lead_count = 19, vowel_count = 21, tail_count = 28;
constexpr char32_t syllable_count = lead_count * vowel_count * tail_count;

std::vector<unsigned char> decoded() {
  static constexpr char letters[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<int, 256> values;
  values.fill(-1);
  for (int k = 0; k < 64; ++k) values[static_cast<unsigned char>(letters[k])] = k;
  std::vector<unsigned char> bytes;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char *line : lines)
    for (; *line != '\0'; ++line) {
      const int value = values[static_cast<unsigned char>(*line)];
      if (value < 0) continue;  // padding at the end
      bits = bits << 6 | static_cast<std::uint32_t>(value);
      held += 6;
      if (held >= 8) {
        held -= 8;
        bytes.push_back(static_cast<unsigned char>(bits >> held & 255));
      }
    }
  return bytes;
}

class Reader {
 public:
  explicit Reader(std::vector<unsigned char> bytes) : bytes_(std::move(bytes)) {}

  std::uint32_t number() {
    std::uint32_t value = 0;
    for (int shift = 0;; shift += 7) {
      const unsigned char byte = bytes_.at(at_++);
      value |= static_cast<std::uint32_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
  }

  std::int32_t signed_number() {
    const std::uint32_t value = number();
    const auto half = static_cast<std::int32_t>(value >> 1);
    return (value & 1) != 0 ? -half - 1 : half;
  }

  // Calls with first, end and value of every run.
  template <typename Call>
  void runs(Call call) {
    const std::uint32_t count = number();
    char32_t first = number();
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::uint32_t value = number();
      const char32_t end = k + 1 < count ? first + number() : points;
      call(first, end, value);
      first = end;
    }
  }

  void map(std::unordered_map<char32_t, std::vector<char32_t>> &to) {
    char32_t first = 0;
    for (std::uint32_t left = number(); left > 0; --left) {
      first += number();
      const std::uint32_t count = number(), step = number(), length = number();
      std::vector<char32_t> becomes(length);
      for (char32_t &point : becomes)
        point = static_cast<char32_t>(static_cast<std::int32_t>(first) + signed_number());
      for (std::uint32_t k = 0; k < count; ++k) {
        to[first + k * step] = becomes;
        for (char32_t &point : becomes) point += step;
      }
    }
  }

 private:
  std::vector<unsigned char> bytes_;
  std::size_t at_ = 0;
};

std::uint64_t pair_of(char32_t first, char32_t second) {
  return std::uint64_t{first} << 32 | second;
}

}  // namespace

const Unicode &Unicode::tables() {
  static const Unicode only;
  return only;
}

Unicode::Unicode() {
  Reader reader(decoded());
  masks_.resize(reader.number());
  for (std::uint32_t &mask : masks_) mask = reader.number();
  std::vector<std::uint16_t> every(points, 0);
  reader.runs([&](char32_t first, char32_t end, std::uint32_t value) {
    std::fill(every.begin() + first, every.begin() + end, static_cast<std::uint16_t>(value));
  });
  std::map<std::vector<std::uint16_t>, std::uint16_t> known;
  for (std::size_t page = 0; page < pages_.size(); ++page) {
    const auto begin = every.begin() + static_cast<std::ptrdiff_t>(page << 8);
    const std::vector<std::uint16_t> part(begin, begin + 256);
    const auto next = static_cast<std::uint16_t>(known.size());
    const auto [place, is_new] = known.emplace(part, next);
    if (is_new) classes_.insert(classes_.end(), part.begin(), part.end());
    pages_[page] = place->second;
  }
  reader.runs([&](char32_t first, char32_t end, std::uint32_t value) {
    for (char32_t c = first; value != 0 && c < end; ++c)
      combining_classes_[c] = static_cast<int>(value);
  });
  reader.map(lower_);
  reader.map(canonical_);
  reader.map(compatible_);
  fill_compositions();
}

// A composite's decomposition is complete; its pair is what its start composes to, and the last.
void Unicode::fill_compositions() {
  std::map<std::vector<char32_t>, char32_t> whole;
  for (const auto &[point, text] : canonical_)
    if (is(point, composite)) whole[text] = point;
  for (const auto &[text, point] : whole) {
    const std::vector<char32_t> start(text.begin(), text.end() - 1);
    const auto found = whole.find(start);
    if (start.size() == 1) compositions_[pair_of(start[0], text.back())] = point;
    else if (found != whole.end()) compositions_[pair_of(found->second, text.back())] = point;
  }
}

int Unicode::combining_class(char32_t c) const {
  if (c < 0x300) return 0;
  const auto found = combining_classes_.find(c);
  return found == combining_classes_.end() ? 0 : found->second;
}

void Unicode::lower(char32_t c, std::vector<char32_t> &to) const {
  if (!is(c, lowered)) return to.push_back(c);
  const auto &text = lower_.at(c);
  to.insert(to.end(), text.begin(), text.end());
}

void Unicode::decompose(char32_t c, bool compatibly, std::vector<char32_t> &to) const {
  if (c >= syllables && c < syllables + syllable_count) {
    const char32_t index = c - syllables, tail = index % tail_count;
    to.push_back(leads + index / (vowel_count * tail_count));
    to.push_back(vowels + index / tail_count % vowel_count);
    if (tail != 0) to.push_back(tails + tail);
    return;
  }
  const std::uint32_t has = traits(c);
  const bool other = compatibly && (has & compatible) != 0;
  if (!other && (has & canonical) == 0) return to.push_back(c);
  const auto &text = (other ? compatible_ : canonical_).at(c);
  to.insert(to.end(), text.begin(), text.end());
}

char32_t Unicode::compose(char32_t first, char32_t second) const {
  if (first >= leads && first < leads + lead_count && second >= vowels &&
      second < vowels + vowel_count)
    return syllables + ((first - leads) * vowel_count + second - vowels) * tail_count;
  if (first >= syllables && first < syllables + syllable_count &&
      (first - syllables) % tail_count == 0 && second > tails && second < tails + tail_count)
    return first + second - tails;
  const auto found = compositions_.find(pair_of(first, second));
  return found == compositions_.end() ? 0 : found->second;
}

}  // namespace effbert::detail
