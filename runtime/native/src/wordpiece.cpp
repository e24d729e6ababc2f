// WordPiece: the longest token that starts a word, then the longest that continues it.
#include <algorithm>

#include "token_model.hpp"

namespace effbert::detail {
namespace {

class WordPiece : public TokenModel {
 public:
  explicit WordPiece(Part &part)
      : vocabulary_(part),
        prefix_(part.text("continuing_subword_prefix")),
        longest_word_(static_cast<std::size_t>(part.id("max_input_chars_per_word"))),
        unknown_(vocabulary_.find(part.text("unk_token"))) {
    if (unknown_ == Vocabulary::none) part.refuse("has an unk_token outside its vocab");
  }

  const Vocabulary &vocabulary() const override { return vocabulary_; }

  void tokenize(const Characters &word, std::vector<Token> &to) const override {
    const auto size = static_cast<std::uint32_t>(word.size());
    const std::size_t before = to.size();
    bool known = word.size() <= longest_word_;
    for (std::uint32_t begin = 0; known && begin < size;) {
      const Token token = longest_token(word, begin);
      known = token.id != Vocabulary::none;
      to.push_back(token);
      begin = token.end;
    }
    if (known) return;
    to.resize(before);
    to.push_back({unknown_, 0, size});
  }

 private:
  Token longest_token(const Characters &word, std::uint32_t begin) const {
    std::string text = begin > 0 ? prefix_ : std::string();
    std::vector<std::size_t> ends;  // of characters, in bytes
    for (std::size_t at = begin; at < word.size() && text.size() <= vocabulary_.longest(); ++at) {
      append_utf8(text, word[at].code);
      ends.push_back(text.size());
    }
    for (std::size_t count = ends.size(); count > 0; --count) {
      const auto id = vocabulary_.find(std::string_view(text).substr(0, ends[count - 1]));
      if (id != Vocabulary::none) return {id, begin, begin + static_cast<std::uint32_t>(count)};
    }
    return {Vocabulary::none, begin, begin + 1};
  }

  Vocabulary vocabulary_;
  std::string prefix_;
  std::size_t longest_word_;
  std::int32_t unknown_;
};

}  // namespace

std::unique_ptr<const TokenModel> make_wordpiece(Part &part) {
  return std::make_unique<WordPiece>(part);
}

}  // namespace effbert::detail
