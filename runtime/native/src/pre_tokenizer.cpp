#include "pre_tokenizer.hpp"

#include <algorithm>
#include <array>

#include "unicode.hpp"

namespace effbert::detail {
namespace {

using Place = std::size_t;

Characters part_of(const Characters &text, Place begin, Place end) {
  return Characters(text.begin() + static_cast<std::ptrdiff_t>(begin),
                    text.begin() + static_cast<std::ptrdiff_t>(end));
}

// Words between spaces; with `marks`, a punctuation mark is a word.
class Blanks : public PreTokenizer {
 public:
  explicit Blanks(bool marks) : marks_(marks) {}
  void split(Characters text, std::vector<Characters> &to) const override {
    const Unicode &unicode = Unicode::tables();
    Place begin = 0;
    for (Place at = 0; at < text.size(); ++at) {
      const std::uint32_t traits = unicode.traits(text[at].code);
      const bool mark = marks_ && (traits & punctuation) != 0;
      if (!mark && (traits & space) == 0) continue;
      if (at > begin) to.push_back(part_of(text, begin, at));
      if (mark) to.push_back({text[at]});
      begin = at + 1;
    }
    if (begin < text.size()) to.push_back(part_of(text, begin, text.size()));
  }

 private:
  bool marks_;
};

class Metaspace : public PreTokenizer {
 public:
  explicit Metaspace(Part &part) : splits_(part.flag("split", true)) {
    const Characters mark = to_characters(part.text("replacement"));
    if (mark.size() != 1) part.refuse("has a replacement that is not one character");
    mark_ = mark[0].code;
    if (part.has("prepend_scheme")) {
      const std::string &scheme = part.text("prepend_scheme");
      if (scheme != "always" && scheme != "first" && scheme != "never")
        part.refuse("has an unknown prepend_scheme");
      always_ = scheme == "always";
      first_ = scheme == "first";
      if (part.has("add_prefix_space") && part.flag("add_prefix_space") == (scheme == "never"))
        part.refuse("has an add_prefix_space that contradicts its prepend_scheme");
    } else {
      always_ = part.flag("add_prefix_space");
    }
    part.ignore("str_rep");
  }

  void split(Characters text, std::vector<Characters> &to) const override {
    for (Character &c : text)
      if (c.code == ' ') c.code = mark_;
    const bool wanted = always_ || (first_ && text[0].from == 0);
    if (wanted && text[0].code != mark_) prepend(text, mark_);
    if (!splits_) return to.push_back(std::move(text));
    Place begin = 0;
    for (Place at = 1; at < text.size(); ++at) {
      if (text[at].code != mark_) continue;
      to.push_back(part_of(text, begin, at));
      begin = at;
    }
    to.push_back(part_of(text, begin, text.size()));
  }

 private:
  bool splits_, always_ = false, first_ = false;
  char32_t mark_ = 0;
};

// GPT-2's words, in the letters that stand for bytes.
class ByteLevel : public PreTokenizer {
 public:
  explicit ByteLevel(Part &part)
      : prefix_(part.flag("add_prefix_space")), words_(part.flag("use_regex", true)) {
    part.ignore("trim_offsets");  // only of the post-processor
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool shown = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      letters_[byte] = shown ? byte : next++;
    }
  }

  void split(Characters text, std::vector<Characters> &to) const override {
    if (prefix_ && text[0].code != ' ') prepend(text, ' ');
    for (Place at = 0; at < text.size();) {
      const Place end = words_ ? end_of_word(text, at) : text.size();
      to.push_back(in_letters(text, at, end));
      at = end;
    }
  }

 private:
  enum Kind { blank, alphabetic, numeric, other };

  static Kind kind_of(const Character &c) {
    const std::uint32_t traits = Unicode::tables().traits(c.code);
    return (traits & letter) != 0 ? alphabetic
           : (traits & number) != 0 ? numeric
           : (traits & space) != 0 ? blank : other;
  }

  // Of 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  static Place end_of_word(const Characters &text, Place at) {
    const Place ending = contraction(text, at);
    if (ending > 0) return at + ending;
    Place begin = at;
    if (text[at].code == ' ' && at + 1 < text.size() && kind_of(text[at + 1]) != blank) ++begin;
    const Kind kind = kind_of(text[begin]);
    Place end = begin + 1;
    while (end < text.size() && kind_of(text[end]) == kind) ++end;
    // The last blank before a word belongs to the word, if it is not alone.
    return kind == blank && end < text.size() && end - begin > 1 ? end - 1 : end;
  }

  static Place contraction(const Characters &text, Place at) {
    static constexpr std::string_view endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    if (text[at].code != '\'') return 0;
    for (const std::string_view ending : endings) {
      Place same = 1;
      while (same < ending.size() && at + same < text.size() &&
             text[at + same].code == static_cast<char32_t>(ending[same]))
        ++same;
      if (same == ending.size()) return same;
    }
    return 0;
  }

  Characters in_letters(const Characters &text, Place begin, Place end) const {
    Characters letters;
    std::string bytes;
    for (Place at = begin; at < end; ++at) {
      bytes.clear();
      append_utf8(bytes, text[at].code);
      for (const char byte : bytes)
        letters.push_back({letters_[static_cast<unsigned char>(byte)], text[at].from, text[at].to});
    }
    return letters;
  }

  bool prefix_, words_;
  std::array<char32_t, 256> letters_{};
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(Part &part) {
    for (Part &inner : part.parts("pretokenizers")) inner_.push_back(make_pre_tokenizer(inner));
  }

  void split(Characters text, std::vector<Characters> &to) const override {
    std::vector<Characters> pieces, next;
    pieces.push_back(std::move(text));
    for (const auto &inner : inner_) {
      next.clear();
      for (Characters &piece : pieces) inner->split(std::move(piece), next);
      pieces.swap(next);
    }
    std::move(pieces.begin(), pieces.end(), std::back_inserter(to));
  }

 private:
  std::vector<std::unique_ptr<const PreTokenizer>> inner_;
};

std::unique_ptr<const PreTokenizer> made(Part &part) {
  const std::string &type = part.type();
  if (type == "BertPreTokenizer") return std::make_unique<Blanks>(true);
  if (type == "WhitespaceSplit") return std::make_unique<Blanks>(false);
  if (type == "Metaspace") return std::make_unique<Metaspace>(part);
  if (type == "ByteLevel") return std::make_unique<ByteLevel>(part);
  if (type == "Sequence") return std::make_unique<Sequence>(part);
  part.refuse_type();
}

}  // namespace

std::unique_ptr<const PreTokenizer> make_pre_tokenizer(Part part) {
  auto pre_tokenizer = made(part);
  part.finish();
  return pre_tokenizer;
}

}  // namespace effbert::detail
