#include "pipeline.hpp"

#include <algorithm>

#include "unicode.hpp"

namespace effbert::detail {
namespace {

constexpr JsonLimits limits = {std::size_t{1} << 28, 64, false};
constexpr char32_t byte_space = 0x120;  // what stands for a space in the byte-level alphabet

Json read(std::string_view data) {
  try {
    return read_json(data, limits);
  } catch (const JsonError &error) {
    throw TokenizerError(std::string("tokenizer.json is not valid JSON: ") + error.what() + ".");
  }
}

bool is_blank(const Character &c) {
  return c.code == byte_space || Unicode::tables().is(c.code, space);
}

}  // namespace

Pipeline::Pipeline(std::string_view data, bool special_tokens_in_text) {
  const Json json = read(data);
  Part whole(json, "the file");
  for (const char *name : {"version", "truncation", "padding", "decoder"}) whole.ignore(name);
  for (const char *name : {"normalizer", "pre_tokenizer", "post_processor"}) whole.ignore(name);
  if (whole.has("normalizer")) normalizer_ = make_normalizer({*json.find("normalizer"), "normalizer"});
  if (whole.has("pre_tokenizer"))
    pre_tokenizer_ = make_pre_tokenizer({*json.find("pre_tokenizer"), "pre_tokenizer"});
  model_ = make_model({whole["model"], "model"});
  whole.ignore("added_tokens");
  std::vector<Part> added;
  if (whole.has("added_tokens")) {
    const Json &list = whole["added_tokens"];
    if (!list.is(Json::Kind::array)) whole.refuse("has added_tokens that are no list");
    for (const Json &item : list.items)
      added.emplace_back(item, "added_tokens[" + std::to_string(added.size()) + "]");
  }
  added_ = std::make_unique<AddedTokens>(std::move(added), *model_, normalizer_.get(),
                                         special_tokens_in_text);
  if (whole.has("post_processor"))
    post_processor_ = make_post_processor({*json.find("post_processor"), "post_processor"});
  whole.finish();
}

std::vector<Found> Pipeline::tokenize(std::string_view text) const {
  std::vector<Found> found;
  std::vector<Characters> words;
  std::vector<Token> tokens;
  std::int32_t word = 0;
  for (Piece &piece : added_->split(to_characters(text))) {
    if (piece.id >= 0) {
      add(piece.text, {piece.id, 0, static_cast<std::uint32_t>(piece.text.size())}, found);
      found.back().word = word++;
      continue;
    }
    words.clear();
    if (pre_tokenizer_ != nullptr) pre_tokenizer_->split(std::move(piece.text), words);
    else words.push_back(std::move(piece.text));
    for (const Characters &each : words) {
      tokens.clear();
      model_->tokenize(each, tokens);
      for (const Token &token : tokens) {
        add(each, token, found);
        found.back().word = word;
      }
      ++word;
    }
  }
  return found;
}

// Adds a token with its place in the text, from which spaces are trimmed as ByteLevel does it.
void Pipeline::add(const Characters &text, Token token, std::vector<Found> &to) const {
  const auto begin = text.begin() + token.begin, end = text.begin() + token.end;
  Found found = {token.id, 0, begin->from, (end - 1)->to};
  if (post_processor_.trims) {
    auto before = static_cast<std::uint32_t>(
        std::find_if_not(begin, end, is_blank) - begin);
    const auto after = static_cast<std::uint32_t>(
        std::find_if_not(std::make_reverse_iterator(end), std::make_reverse_iterator(begin),
                         is_blank) - std::make_reverse_iterator(end));
    const bool is_first = to.empty() || found.from == 0;
    if (is_first && post_processor_.prefix_space && before == 1) before = 0;
    found.from = std::min(found.from + before, found.to);
    if (found.to >= after) found.to = std::max(found.to - after, found.from);
  }
  to.push_back(found);
}

const std::string *Pipeline::spelling(std::int32_t id) const {
  const std::string *added = added_->spelling(id);
  return added != nullptr ? added : model_->vocabulary().spelling(id);
}

}  // namespace effbert::detail
