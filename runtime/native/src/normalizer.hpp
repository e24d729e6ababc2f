// The normalizers of tokenizer.json.
#pragma once

#include <memory>

#include "characters.hpp"
#include "part.hpp"

namespace effbert::detail {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(Characters &text) const = 0;
};

// Throws TokenizerError for one that is not known exactly.
std::unique_ptr<const Normalizer> make_normalizer(Part part);

// One that replaces a string, or one of a few patterns; see replace.cpp.
std::unique_ptr<const Normalizer> make_replace(Part &part);

// Sentencepiece's table of replacements, which is applied to clusters; see charsmap.cpp.
std::unique_ptr<const Normalizer> make_charsmap(Part &part);

}  // namespace effbert::detail
