// Replaces a string, or one of the patterns that the tokenizers of transformers use.
#include <algorithm>

#include "normalizer.hpp"
#include "unicode.hpp"

namespace effbert::detail {
namespace {

bool is_space(const Character &c) { return Unicode::tables().is(c.code, space); }
bool is_blank(const Character &c) { return c.code == ' '; }

std::size_t run(const Characters &text, std::size_t at, bool (*belongs)(const Character &)) {
  std::size_t end = at;
  while (end < text.size() && belongs(text[end])) ++end;
  return end - at;
}

std::size_t blanks(const Characters &text, std::size_t at) {
  const std::size_t count = run(text, at, is_blank);
  return count >= 2 ? count : 0;
}

std::size_t spaces(const Characters &text, std::size_t at) { return run(text, at, is_space); }

std::size_t spaces_or_break(const Characters &text, std::size_t at) {
  const std::size_t count = run(text, at, is_space);
  const char32_t c = text[at].code;
  return count >= 2 ? count : c == '\n' || c == '\r' || c == '\t' ? 1 : 0;
}

std::size_t blanks_at_ends(const Characters &text, std::size_t at) {
  const std::size_t count = run(text, at, is_blank);
  return at == 0 || at + count == text.size() ? count : 0;
}

std::size_t first_mark(const Characters &text, std::size_t at) {
  return at == 0 && text[0].code == 0x2581 ? 1 : 0;
}

// How many characters a pattern matches at a place; 0 for none.
using Match = std::size_t (*)(const Characters &, std::size_t);
constexpr std::pair<std::string_view, Match> patterns[] = {
    {" {2,}", blanks},
    {"\\s+", spaces},
    {"\\s{2,}|[\\n\\r\\t]", spaces_or_break},
    {"\\A +| +\\z", blanks_at_ends},
    {"\\A\u2581", first_mark},
};

class Replace : public Normalizer {
 public:
  explicit Replace(Part &part) : content_(to_characters(part.text("content"))) {
    Part pattern = part.part("pattern");
    if (pattern.has("String")) {
      string_ = to_characters(pattern.text("String"));
      if (string_.empty()) part.refuse("replaces an empty string");
    } else {
      const std::string &regex = pattern.text("Regex");
      const auto known = std::find_if(std::begin(patterns), std::end(patterns),
                                      [&](const auto &each) { return each.first == regex; });
      if (known == std::end(patterns)) part.refuse("replaces a pattern of its own");
      match_ = known->second;
      if (part.text("content").find('$') != std::string::npos) part.refuse("replaces by groups");
    }
    pattern.finish();
  }

  void apply(Characters &text) const override {
    Characters changed;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = match_ != nullptr ? match_(text, at) : matched(text, at);
      if (length == 0) {
        changed.push_back(text[at++]);
        continue;
      }
      at += length;
      for (const Character &c : content_)
        changed.push_back({c.code, text[at - 1].from, text[at - 1].to});
    }
    text.swap(changed);
  }

 private:
  std::size_t matched(const Characters &text, std::size_t at) const {
    const auto same = [](const Character &a, const Character &b) { return a.code == b.code; };
    const bool fits = text.size() - at >= string_.size() &&
                      std::equal(string_.begin(), string_.end(),
                                 text.begin() + static_cast<std::ptrdiff_t>(at), same);
    return fits ? string_.size() : 0;
  }

  Characters content_, string_;
  Match match_ = nullptr;
};

}  // namespace

std::unique_ptr<const Normalizer> make_replace(Part &part) {
  return std::make_unique<Replace>(part);
}

}  // namespace effbert::detail
