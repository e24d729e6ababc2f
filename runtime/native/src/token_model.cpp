#include "token_model.hpp"

#include <algorithm>
#include <limits>

namespace effbert::detail {
namespace {

constexpr std::size_t longest_word_token = 1 << 10;  // bytes; a sign of a damaged file

}  // namespace

Vocabulary::Vocabulary(Part &part) {
  const Json &json = part["vocab"];
  if (!json.is(Json::Kind::object)) part.refuse("has a vocab that is no object");
  spellings_.reserve(json.members.size());
  ids_.reserve(json.members.size());
  for (const auto &[token, id] : json.members) {
    if (!id.is(Json::Kind::integer) || !id.fits || id.integer < 0 ||
        id.integer > std::numeric_limits<std::int32_t>::max())
      part.refuse("has a token without an id");
    if (token.size() > longest_word_token) part.refuse("has a token of more than 1,024 bytes");
    if (spellings_.count(static_cast<std::int32_t>(id.integer)) > 0)
      part.refuse("has two tokens with the id " + id.text);
    add(token, static_cast<std::int32_t>(id.integer));
  }
}

Vocabulary::Vocabulary(const std::vector<std::string> &tokens) {
  spellings_.reserve(tokens.size());
  ids_.reserve(tokens.size());
  for (std::size_t id = 0; id < tokens.size(); ++id)
    add(tokens[id], static_cast<std::int32_t>(id));
}

void Vocabulary::add(const std::string &token, std::int32_t id) {
  const std::string &kept = spellings_.emplace(id, token).first->second;
  ids_[kept] = id;  // of two equal spellings any is the key
  longest_ = std::max(longest_, kept.size());
}

std::int32_t Vocabulary::find(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? none : found->second;
}

const std::string *Vocabulary::spelling(std::int32_t id) const {
  const auto found = spellings_.find(id);
  return found == spellings_.end() ? nullptr : &found->second;
}

std::unique_ptr<const TokenModel> make_model(Part part) {
  // Files from before 2021 name no type.
  std::string type = part.type();
  if (type.empty() && part.has("max_input_chars_per_word")) type = "WordPiece";
  if (type.empty() && part.has("merges")) type = "BPE";
  if (type.empty() && part.has("unk_id")) type = "Unigram";
  std::unique_ptr<const TokenModel> model;
  if (type == "WordPiece") model = make_wordpiece(part);
  else if (type == "BPE") model = make_bpe(part);
  else if (type == "Unigram") model = make_unigram(part);
  else part.refuse_type();
  part.finish();
  return model;
}

}  // namespace effbert::detail
