// The pre-tokenizers of tokenizer.json: they split a text into words.
#pragma once

#include <memory>
#include <vector>

#include "characters.hpp"
#include "part.hpp"

namespace effbert::detail {

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Appends the pieces of one that is not empty; empty ones are left out by the caller.
  virtual void split(Characters text, std::vector<Characters> &to) const = 0;
};

// Throws TokenizerError for one that is not known exactly.
std::unique_ptr<const PreTokenizer> make_pre_tokenizer(Part part);

}  // namespace effbert::detail
