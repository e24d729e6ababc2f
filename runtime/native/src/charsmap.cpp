// Sentencepiece's precompiled table: a trie of darts-clone, then strings. As the tokenizers library
// applies it: of a grapheme cluster of fewer than six bytes the start is looked up and stands for
// all of it; other clusters are looked up character by character.
#include <array>

#include "normalizer.hpp"
#include "unicode.hpp"

namespace effbert::detail {
namespace {

constexpr std::size_t longest_cluster = 5;  // bytes
constexpr char32_t joiner = 0x200D;

bool within(char32_t c, char32_t first, char32_t last) { return c >= first && c <= last; }

// Hangul: which of the next syllable's letters a letter may be joined to.
enum class Hangul { none, lead, vowel, tail, open, closed };

Hangul hangul_of(char32_t c) {
  if (within(c, 0x1100, 0x115F) || within(c, 0xA960, 0xA97C)) return Hangul::lead;
  if (within(c, 0x1160, 0x11A7) || within(c, 0xD7B0, 0xD7C6)) return Hangul::vowel;
  if (within(c, 0x11A8, 0x11FF) || within(c, 0xD7CB, 0xD7FB)) return Hangul::tail;
  if (within(c, 0xAC00, 0xD7A3)) return (c - 0xAC00) % 28 == 0 ? Hangul::open : Hangul::closed;
  return Hangul::none;
}

bool hangul_joins(Hangul a, Hangul b) {
  if (b == Hangul::none || b == Hangul::lead) return a == Hangul::lead && b == Hangul::lead;
  if (a == Hangul::lead) return b != Hangul::tail;
  if (b == Hangul::vowel) return a == Hangul::open || a == Hangul::vowel;
  return b == Hangul::tail && a != Hangul::none;
}

// Where the extended grapheme cluster ends (Unicode Standard Annex 29).
std::size_t end_of_cluster(const Characters &text, std::size_t begin) {
  const Unicode &unicode = Unicode::tables();
  bool picture = false, joined_picture = false;  // a pictograph and what extends it; then a joiner
  bool indic = false, linked = false;            // a consonant and what extends it; then a linker
  std::size_t flags = 0;                         // regional indicators
  std::size_t at = begin;
  for (;; ++at) {
    const char32_t c = text[at].code;
    const std::uint32_t traits = unicode.traits(c);
    joined_picture = picture && c == joiner;
    if ((traits & joins_pictures) == 0) picture = (traits & pictograph) != 0;
    if ((traits & consonant) != 0) indic = true, linked = false;
    else if ((traits & (joins_consonants | linker)) == 0) indic = linked = false;
    else linked = indic && (linked || (traits & linker) != 0);
    flags = within(c, 0x1F1E6, 0x1F1FF) ? flags + 1 : 0;

    if (at + 1 == text.size()) break;
    const char32_t next = text[at + 1].code;
    const std::uint32_t follows = unicode.traits(next);
    if (c == '\r' && next == '\n') continue;
    if (((traits | follows) & control) != 0) break;
    const bool joins = (follows & extends) != 0 || (traits & prepends) != 0 ||
                       hangul_joins(hangul_of(c), hangul_of(next)) ||
                       (joined_picture && (follows & pictograph) != 0) ||
                       (linked && (follows & consonant) != 0) ||
                       (flags % 2 == 1 && within(next, 0x1F1E6, 0x1F1FF));
    if (!joins) break;
  }
  return at + 1;
}

std::string from_base64(Part &part, const std::string &text) {
  static constexpr std::string_view letters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    if (c == '=') break;
    const std::size_t value = letters.find(c);
    if (value == letters.npos) part.refuse("has a precompiled_charsmap that is no base64");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>(bits >> held & 255);
  }
  return bytes;
}

class Charsmap : public Normalizer {
 public:
  explicit Charsmap(Part &part) {
    const std::string bytes = from_base64(part, part.text("precompiled_charsmap"));
    if (bytes.size() < 4) part.refuse("has a precompiled_charsmap that is cut off");
    const std::size_t size = number(bytes, 0);
    if (size % 4 != 0 || size == 0 || size > bytes.size() - 4)
      part.refuse("has a precompiled_charsmap that is cut off");
    for (std::size_t at = 4; at < 4 + size; at += 4) units_.push_back(number(bytes, at));
    strings_ = bytes.substr(4 + size);
    if (first_invalid(strings_) != std::string::npos)
      part.refuse("has a precompiled_charsmap that is not UTF-8");
  }

  void apply(Characters &text) const override {
    std::vector<Change> changes;
    changes.reserve(text.size());
    bool modified = false;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = end_of_cluster(text, begin);
      const std::string cluster = to_utf8(text.data() + begin, text.data() + end);
      std::string_view becomes;
      if (cluster.size() <= longest_cluster && find(cluster, becomes)) {
        modified = true;
        replace(changes, end - begin, becomes);
      } else {
        for (std::size_t at = begin; at < end; ++at) {
          const std::string one = to_utf8(text.data() + at, text.data() + at + 1);
          const bool found = find(one, becomes);
          modified = modified || found;
          if (found) replace(changes, 1, becomes);
          else changes.emplace_back(text[at].code, 0);
        }
      }
      begin = end;
    }
    if (modified) text = transformed(text, changes);
  }

 private:
  static std::uint32_t number(const std::string &bytes, std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t k = 0; k < 4; ++k)
      value |= std::uint32_t{static_cast<unsigned char>(bytes[at + k])} << 8 * k;
    return value;
  }

  // Looks up the shortest key that a text starts with.
  bool find(std::string_view text, std::string_view &becomes) const {
    const auto offset = [](std::uint32_t unit) { return unit >> 10 << ((unit & 512) >> 6); };
    std::uint32_t place = offset(units_[0]);
    for (const char byte : text) {
      const auto label = static_cast<unsigned char>(byte);
      if (label == 0) return false;
      place ^= label;
      if (place >= units_.size()) return false;
      const std::uint32_t unit = units_[place];
      if ((unit & 0x800000FFu) != label) return false;
      place ^= offset(unit);
      if ((unit >> 8 & 1) == 0) continue;
      if (place >= units_.size()) return false;
      const std::size_t start = units_[place] & 0x7FFFFFFFu;
      if (start >= strings_.size() ||
          (static_cast<unsigned char>(strings_[start]) & 0xC0) == 0x80)
        return false;
      const std::size_t end = std::min(strings_.find('\0', start), strings_.size());
      becomes = std::string_view(strings_).substr(start, end - start);
      return true;
    }
    return false;
  }

  static void replace(std::vector<Change> &changes, std::size_t old_count,
                      std::string_view becomes) {
    const Characters added = to_characters(becomes);
    for (const Character &c : added) changes.emplace_back(c.code, 0);
    const auto more = static_cast<int>(added.size()) - static_cast<int>(old_count);
    for (int k = 0; k < more; ++k) changes[changes.size() - 1 - static_cast<std::size_t>(k)].second = 1;
    if (more < 0 && !changes.empty()) changes.back().second += more;
  }

  std::vector<std::uint32_t> units_;
  std::string strings_;
};

}  // namespace

std::unique_ptr<const Normalizer> make_charsmap(Part &part) {
  return std::make_unique<Charsmap>(part);
}

}  // namespace effbert::detail
