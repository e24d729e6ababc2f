// Texts to token ids, as the tokenizers library makes them from the same tokenizer.json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "errors.hpp"

namespace effbert::detail {

// Everything about one text or pair, special tokens included; all vectors are equally long.
struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> type_ids;
  std::vector<std::int32_t> word_ids;       // word in its text; -1 of special tokens
  std::vector<std::int8_t> sequence_ids;    // 0 first text, 1 second, -1 special tokens
  std::vector<std::uint32_t> starts, ends;  // characters of the text, not bytes
  bool truncated = false;

  // For each token the index of the first piece of its word; -1 for special tokens.
  std::vector<std::int64_t> word_map() const;
};

struct TokenizerSettings {
  std::size_t max_length = 512;  // tokens, special ones included
  std::size_t min_length = 2;
  bool truncate_left = false;
  bool special_tokens_in_text = true;
  bool pairs_only = false;  // question answering: a pair, of which the second text is cut
  bool texts_only = false;  // token classification: no pairs
};

// Any number of threads may use one tokenizer.
class Tokenizer {
 public:
  // `data` are the bytes of tokenizer.json.
  //
  // Throws TokenizerError, which names the part of it that is not known exactly.
  Tokenizer(std::string_view data, const TokenizerSettings &settings);
  Tokenizer(Tokenizer &&) noexcept;
  ~Tokenizer();

  // Tokenizes a text, or a pair, in UTF-8; `index` of the text is for messages.
  //
  // Throws InputError if it is not valid UTF-8, has too few tokens, is a pair where none is allowed
  // or none where one is needed, or is too long to look at.
  Encoding encode(std::size_t index, std::string_view text) const;
  Encoding encode(std::size_t index, std::string_view first, std::string_view second) const;

  const std::string *token(std::int64_t id) const;  // its spelling; null if there is none

 private:
  struct Parts;
  std::unique_ptr<const Parts> parts_;
};

}  // namespace effbert::detail
