#include "added_tokens.hpp"

#include <algorithm>

#include "unicode.hpp"

namespace effbert::detail {
namespace {

Characters part_of(const Characters &text, std::size_t begin, std::size_t end) {
  return Characters(text.begin() + static_cast<std::ptrdiff_t>(begin),
                    text.begin() + static_cast<std::ptrdiff_t>(end));
}

}  // namespace

AddedTokens::AddedTokens(std::vector<Part> parts, const TokenModel &model,
                         const Normalizer *normalizer, bool special_in_text)
    : normalizer_(normalizer) {
  const Vocabulary &vocabulary = model.vocabulary();
  auto next = static_cast<std::int32_t>(vocabulary.size());
  std::vector<std::pair<bool, Added>> special, others;  // whether normalized
  std::unordered_map<std::string, bool> seen;
  for (Part &part : parts) {
    const std::string &content = part.text("content");
    const std::int32_t known = vocabulary.find(content), id = part.id("id");
    if (content.empty() || !seen.emplace(content, true).second)
      part.refuse("is empty or there twice");
    if (id != (known == Vocabulary::none ? next : known)) part.refuse("has another id");
    next = std::max(next, id + 1);
    if (part.flag("single_word")) part.refuse("is found as a single word");
    Added token = {to_characters(content), content,         id, part.flag("lstrip"),
                   part.flag("rstrip"),    false};
    const bool normalized = part.flag("normalized"), is_special = part.flag("special");
    token.hidden = is_special && !special_in_text;
    if (normalized && normalizer != nullptr) normalizer->apply(token.text);
    if (token.text.empty()) part.refuse("becomes empty when it is normalized");
    part.finish();
    spellings_[id] = content;
    (is_special ? special : others).emplace_back(normalized, std::move(token));
  }
  for (auto *list : {&special, &others})
    for (auto &[normalized, token] : *list)
      (normalized ? normalized_ : as_written_).add(std::move(token));
}

const std::string *AddedTokens::spelling(std::int32_t id) const {
  const auto found = spellings_.find(id);
  return found == spellings_.end() ? nullptr : &found->second;
}

std::vector<Piece> AddedTokens::split(Characters text) const {
  std::vector<Piece> pieces, found;
  as_written_.split(text, pieces);
  for (Piece &piece : pieces) {
    if (piece.id >= 0) {
      found.push_back(std::move(piece));
      continue;
    }
    if (normalizer_ != nullptr) normalizer_->apply(piece.text);
    normalized_.split(piece.text, found);
  }
  return found;
}

void AddedTokens::Group::add(Added token) {
  auto &same = by_first[token.text[0].code];
  const auto shorter = std::find_if(same.begin(), same.end(), [&](std::size_t index) {
    return tokens[index].text.size() < token.text.size();
  });
  same.insert(shorter, tokens.size());
  tokens.push_back(std::move(token));
}

const AddedTokens::Added *AddedTokens::Group::longest(const Characters &text,
                                                      std::size_t at) const {
  const auto same = by_first.find(text[at].code);
  if (same == by_first.end()) return nullptr;
  const auto equal = [](const Character &a, const Character &b) { return a.code == b.code; };
  for (const std::size_t index : same->second) {
    const Characters &token = tokens[index].text;
    if (token.size() <= text.size() - at &&
        std::equal(token.begin(), token.end(), text.begin() + static_cast<std::ptrdiff_t>(at), equal))
      return &tokens[index];
  }
  return nullptr;
}

void AddedTokens::Group::split(const Characters &text, std::vector<Piece> &to) const {
  const Unicode &unicode = Unicode::tables();
  std::size_t done = 0;
  for (std::size_t at = 0; !tokens.empty() && at < text.size();) {
    const Added *token = longest(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + token->text.size();
    at = end;
    if (token->hidden) continue;
    if (token->before)
      while (begin > done && unicode.is(text[begin - 1].code, space)) --begin;
    if (token->after)
      while (end < text.size() && unicode.is(text[end].code, space)) ++end;
    if (done < begin) to.push_back({part_of(text, done, begin), -1});
    to.push_back({part_of(text, begin, end), token->id});
    done = end;
  }
  if (done < text.size()) to.push_back({part_of(text, done, text.size()), -1});
}

}  // namespace effbert::detail
