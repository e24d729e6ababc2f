// The parts of a tokenizer.json in the order in which a text goes through them.
#pragma once

#include "added_tokens.hpp"
#include "normalizer.hpp"
#include "post_processor.hpp"
#include "pre_tokenizer.hpp"
#include "token_model.hpp"

namespace effbert::detail {

// A token of one text, before special tokens are added.
struct Found {
  std::int32_t id, word;
  std::uint32_t from, to;  // characters of the text
};

class Pipeline {
 public:
  // Throws TokenizerError for anything that is not known exactly.
  Pipeline(std::string_view data, bool special_tokens_in_text);

  std::vector<Found> tokenize(std::string_view text) const;  // valid UTF-8
  const std::string *spelling(std::int32_t id) const;
  const PostProcessor &post_processor() const { return post_processor_; }

 private:
  void add(const Characters &text, Token token, std::vector<Found> &to) const;

  std::unique_ptr<const Normalizer> normalizer_;
  std::unique_ptr<const PreTokenizer> pre_tokenizer_;
  std::unique_ptr<const TokenModel> model_;
  std::unique_ptr<const AddedTokens> added_;
  PostProcessor post_processor_;
};

}  // namespace effbert::detail
