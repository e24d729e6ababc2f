#include "long_texts.hpp"

#include <algorithm>

namespace effbert::detail {
namespace {

// The first look: this many characters for each token that is read, but so many at least.
constexpr std::size_t characters_a_token = 8, fewest = 1 << 10, growth = 4;
constexpr std::size_t most = 1 << 19;
// What stands this far from a token has no part in it: a normalizer looks at a few characters around
// a cut, an added token is shorter, and WordPiece gives up words of more than 100 characters.
constexpr std::size_t margin = 1 << 8;
constexpr std::size_t most_counted = 1 << 16;

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

}  // namespace

TextCutter::TextCutter(const Pipeline &pipeline, std::size_t kept, bool left)
    : pipeline_(pipeline),
      kept_(kept),
      first_look_(std::max(characters_a_token * kept, fewest)),
      left_(left) {}

std::string_view TextCutter::cut(std::size_t index, std::string_view text) const {
  // No more characters than bytes, so short texts are not counted.
  if (text.size() <= first_look_ || count_characters(text) <= first_look_) return text;
  return decided(index, text).text;
}

std::pair<std::string_view, std::string_view> TextCutter::cut_pair(std::size_t index,
                                                                   std::string_view first,
                                                                   std::string_view second) const {
  if (std::min(count_characters(first), count_characters(second)) <= first_look_)
    return {cut(index, first), cut(index, second)};
  const std::string_view whole[] = {first, second};
  Cut parts[] = {decided(index, first), decided(index, second)};
  const std::size_t counts[] = {count(part(first, most_counted)), count(part(second, most_counted))};
  while ((counts[0] > counts[1]) != (parts[0].tokens > parts[1].tokens)) {
    const int grown = counts[0] > counts[1] ? 0 : 1;
    const std::size_t held = count_characters(parts[grown].text);
    if (held >= std::min(count_characters(whole[grown]), most_counted)) break;
    const std::string_view larger = part(whole[grown], growth * held);
    parts[grown] = {larger, count(larger)};
  }
  return {parts[0].text, parts[1].text};
}

TextCutter::Cut TextCutter::decided(std::size_t index, std::string_view text) const {
  const std::size_t size = count_characters(text);
  for (std::size_t look = first_look_; look < std::min(size, most + 1); look *= growth) {
    const std::string_view piece = part(text, look);
    const std::vector<Found> found = pipeline_.tokenize(piece);
    if (found.size() <= kept_) continue;
    const std::size_t end = left_ ? look - found[found.size() - kept_].from : found[kept_ - 1].to;
    if (end + margin <= look) return {piece, found.size()};
  }
  if (size > most)
    throw InputError("Text " + std::to_string(index) + ": of its " + std::to_string(size) +
                     " characters the " + (left_ ? "last " : "first ") + std::to_string(most) +
                     " hold fewer than the " + std::to_string(kept_) +
                     " tokens that the model reads, and no more are looked at; shorten it.");
  return {text, count(text)};
}

std::string_view TextCutter::part(std::string_view text, std::size_t characters) const {
  std::size_t at = left_ ? text.size() : 0;
  for (; characters > 0 && (left_ ? at > 0 : at < text.size()); --characters) {
    if (left_) {
      --at;
      while (at > 0 && continues(text[at])) --at;
    } else {
      ++at;
      while (at < text.size() && continues(text[at])) ++at;
    }
  }
  return left_ ? text.substr(at) : text.substr(0, at);
}

std::size_t TextCutter::count(std::string_view text) const {
  return pipeline_.tokenize(text).size();
}

}  // namespace effbert::detail
