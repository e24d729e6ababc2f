#include "tokenizer.hpp"

#include <algorithm>
#include <limits>
#include <map>

#include "long_texts.hpp"
#include "pipeline.hpp"

namespace effbert::detail {
namespace {

std::string named(std::size_t index) { return "Text " + std::to_string(index) + ": "; }

void check_utf8(std::size_t index, std::string_view text) {
  const std::size_t place = first_invalid(text);
  if (place != std::string_view::npos)
    throw InputError(named(index) + "byte " + std::to_string(place) + " is not valid UTF-8.");
}

// Leaves so many tokens.
void truncate(std::vector<Found> &tokens, std::size_t kept, bool left, bool &truncated) {
  if (tokens.size() <= kept) return;
  truncated = true;
  const auto surplus = static_cast<std::ptrdiff_t>(tokens.size() - kept);
  if (left) tokens.erase(tokens.begin(), tokens.begin() + surplus);
  else tokens.erase(tokens.end() - surplus, tokens.end());
}

// How many tokens two texts keep: the longer one loses first.
std::pair<std::size_t, std::size_t> longest_first(std::size_t first, std::size_t second,
                                                  std::size_t room) {
  if (first + second <= room) return {first, second};
  std::size_t fewer = std::min(first, second);
  std::size_t more = fewer > room ? fewer : std::max(fewer, room - fewer);
  if (fewer + more > room) {
    fewer = room / 2;
    more = fewer + room % 2;
  }
  return first > second ? std::pair{more, fewer} : std::pair{fewer, more};
}

}  // namespace

struct Tokenizer::Parts {
  Parts(std::string_view data, const TokenizerSettings &given)
      : settings(given),
        pipeline(data, given.special_tokens_in_text),
        cutter(pipeline, given.max_length, given.truncate_left) {}

  // How many tokens of the texts fit beside the special ones.
  std::size_t room(std::size_t index, const std::vector<Slot> &slots) const {
    const std::size_t special = PostProcessor::count_special(slots);
    if (special > settings.max_length)
      throw InputError(named(index) + "the model reads " + std::to_string(settings.max_length) +
                       " tokens, fewer than the special ones.");
    return settings.max_length - special;
  }

  Encoding joined(std::size_t index, const std::vector<Slot> &slots,
                  const std::vector<Found> &first, const std::vector<Found> &second) const {
    Encoding row;
    for (const Slot &slot : slots) {
      if (slot.kind == Slot::Kind::special) {
        add(row, {slot.id, -1, 0, 0}, slot.type, -1);
        continue;
      }
      const bool is_first = slot.kind == Slot::Kind::first;
      for (const Found &token : is_first ? first : second)
        add(row, token, slot.type, is_first ? 0 : 1);
    }
    if (row.ids.size() < settings.min_length)
      throw InputError(named(index) + "it has " + std::to_string(row.ids.size()) +
                       " tokens, this model needs " + std::to_string(settings.min_length) +
                       " or more.");
    return row;
  }

  static void add(Encoding &row, const Found &token, std::int32_t type, int sequence) {
    row.ids.push_back(token.id);
    row.type_ids.push_back(type);
    row.word_ids.push_back(token.word);
    row.sequence_ids.push_back(static_cast<std::int8_t>(sequence));
    row.starts.push_back(token.from);
    row.ends.push_back(token.to);
  }

  TokenizerSettings settings;
  Pipeline pipeline;
  TextCutter cutter;
};

Tokenizer::Tokenizer(std::string_view data, const TokenizerSettings &settings)
    : parts_(std::make_unique<const Parts>(data, settings)) {}
Tokenizer::Tokenizer(Tokenizer &&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Encoding Tokenizer::encode(std::size_t index, std::string_view text) const {
  const TokenizerSettings &settings = parts_->settings;
  if (settings.pairs_only)
    throw InputError(named(index) + "expected a pair (question, context).");
  check_utf8(index, text);
  const std::string_view cut = parts_->cutter.cut(index, text);
  bool truncated = cut.size() != text.size();
  std::vector<Found> tokens = parts_->pipeline.tokenize(cut);
  const std::vector<Slot> &slots = parts_->pipeline.post_processor().single;
  truncate(tokens, parts_->room(index, slots), settings.truncate_left, truncated);
  Encoding row = parts_->joined(index, slots, tokens, {});
  row.truncated = truncated;
  return row;
}

Encoding Tokenizer::encode(std::size_t index, std::string_view first,
                           std::string_view second) const {
  const TokenizerSettings &settings = parts_->settings;
  if (settings.texts_only)
    throw InputError(named(index) + "got a pair, this bundle labels single texts.");
  check_utf8(index, first);
  check_utf8(index, second);
  const auto cut = parts_->cutter.cut_pair(index, first, second);
  bool truncated = cut.first.size() != first.size() || cut.second.size() != second.size();
  std::vector<Found> left = parts_->pipeline.tokenize(cut.first);
  std::vector<Found> right = parts_->pipeline.tokenize(cut.second);
  const std::vector<Slot> &slots = parts_->pipeline.post_processor().pair;
  const std::size_t room = parts_->room(index, slots);
  auto kept = longest_first(left.size(), right.size(), room);
  if (settings.pairs_only && room > 0) {
    if (left.size() + right.size() > room && left.size() >= room)
      throw InputError(named(index) + "the question leaves no room for the context.");
    kept = {left.size(), std::min(right.size(), room - left.size())};
  }
  truncate(left, kept.first, settings.truncate_left, truncated);
  truncate(right, kept.second, settings.truncate_left, truncated);
  Encoding row = parts_->joined(index, slots, left, right);
  row.truncated = truncated;
  return row;
}

const std::string *Tokenizer::token(std::int64_t id) const {
  if (id < 0 || id > std::numeric_limits<std::int32_t>::max()) return nullptr;
  return parts_->pipeline.spelling(static_cast<std::int32_t>(id));
}

std::vector<std::int64_t> Encoding::word_map() const {
  std::map<std::pair<int, std::int32_t>, std::int64_t> first;
  std::vector<std::int64_t> found;
  for (std::size_t k = 0; k < ids.size(); ++k)
    found.push_back(word_ids[k] < 0
                        ? -1
                        : first.emplace(std::pair<int, std::int32_t>(sequence_ids[k], word_ids[k]),
                                        static_cast<std::int64_t>(k))
                              .first->second);
  return found;
}

}  // namespace effbert::detail
