// Byte pair encoding: the pair that was learnt first is merged first.
#include <queue>

#include "token_model.hpp"

namespace effbert::detail {
namespace {

struct Merge {
  std::uint32_t rank;
  std::int32_t id;  // of both together
};

struct Symbol {
  std::int32_t id;
  std::uint32_t size;  // characters; 0 once it is merged into the one before
  std::int64_t previous, next;
};

// A pair that may be merged; the lowest rank first, then the leftmost.
struct Candidate {
  std::uint32_t rank;
  std::size_t place;
  std::int32_t id;
  bool operator<(const Candidate &other) const {  // of a heap whose top is the largest
    return rank != other.rank ? rank > other.rank : place > other.place;
  }
};

class Bpe : public TokenModel {
 public:
  explicit Bpe(Part &part) : vocabulary_(part), whole_words_(part.flag("ignore_merges", false)) {
    for (const char *name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      part.ignore(name);
      if (part.has(name) && !part.text(name).empty())
        part.refuse(std::string("has a ") + name);
    }
    part.ignore("dropout");
    if (part.has("dropout")) part.refuse("has a dropout");
    if (part.flag("byte_fallback", false)) part.refuse("has byte_fallback");
    fuses_ = part.flag("fuse_unk", false);
    part.ignore("unk_token");
    if (part.has("unk_token")) {
      unknown_ = vocabulary_.find(part.text("unk_token"));
      if (unknown_ == Vocabulary::none) part.refuse("has an unk_token outside its vocab");
    }
    read_merges(part);
  }

  const Vocabulary &vocabulary() const override { return vocabulary_; }

  void tokenize(const Characters &word, std::vector<Token> &to) const override {
    if (whole_words_) {
      const auto id = vocabulary_.find(to_utf8(word.data(), word.data() + word.size()));
      if (id != Vocabulary::none)
        return to.push_back({id, 0, static_cast<std::uint32_t>(word.size())});
    }
    std::vector<Symbol> symbols = letters(word);
    merge_all(symbols);
    std::uint32_t at = 0;
    for (const Symbol &symbol : symbols) {
      if (symbol.size == 0) continue;
      to.push_back({symbol.id, at, at + symbol.size});
      at += symbol.size;
    }
  }

 private:
  void read_merges(Part &part) {
    const Json &merges = part["merges"];
    if (!merges.is(Json::Kind::array)) part.refuse("has merges that are no list");
    for (const Json &merge : merges.items) {
      const auto [first, second] = pair_of(part, merge);
      const auto a = vocabulary_.find(first), b = vocabulary_.find(second);
      const auto both = vocabulary_.find(first + second);
      if (a == Vocabulary::none || b == Vocabulary::none || both == Vocabulary::none)
        part.refuse("has a merge outside its vocab");
      merges_[key(a, b)] = {static_cast<std::uint32_t>(&merge - merges.items.data()), both};
    }
  }

  // "a b", or ["a", "b"].
  static std::pair<std::string, std::string> pair_of(const Part &part, const Json &merge) {
    if (merge.is(Json::Kind::string)) {
      const std::size_t blank = merge.text.find(' ');
      if (blank != std::string::npos && merge.text.find(' ', blank + 1) == std::string::npos)
        return {merge.text.substr(0, blank), merge.text.substr(blank + 1)};
    } else if (merge.items.size() == 2 && merge.items[0].is(Json::Kind::string) &&
               merge.items[1].is(Json::Kind::string)) {
      return {merge.items[0].text, merge.items[1].text};
    }
    part.refuse("has a merge that is no pair");
  }

  static std::uint64_t key(std::int32_t a, std::int32_t b) {
    return static_cast<std::uint64_t>(a) << 32 | static_cast<std::uint32_t>(b);
  }

  std::vector<Symbol> letters(const Characters &word) const {
    std::vector<Symbol> symbols;
    symbols.reserve(word.size());
    bool after_unknown = false;
    std::string text;
    for (const Character &c : word) {
      text.clear();
      append_utf8(text, c.code);
      const auto id = vocabulary_.find(text);
      const bool unknown = id == Vocabulary::none;
      if (unknown && unknown_ == Vocabulary::none) continue;
      if (unknown && after_unknown && fuses_) {
        ++symbols.back().size;
        continue;
      }
      after_unknown = unknown;
      const auto place = static_cast<std::int64_t>(symbols.size());
      symbols.push_back({unknown ? unknown_ : id, 1, place - 1, place + 1});
    }
    if (!symbols.empty()) symbols.back().next = -1;
    return symbols;
  }

  void merge_all(std::vector<Symbol> &symbols) const {
    std::priority_queue<Candidate> queue;
    const auto add = [&](std::int64_t first, std::int64_t second) {
      if (first < 0 || second < 0) return;
      const auto place = static_cast<std::size_t>(first);
      const auto found =
          merges_.find(key(symbols[place].id, symbols[static_cast<std::size_t>(second)].id));
      if (found != merges_.end()) queue.push({found->second.rank, place, found->second.id});
    };
    for (std::size_t k = 0; k + 1 < symbols.size(); ++k)
      add(static_cast<std::int64_t>(k), static_cast<std::int64_t>(k + 1));
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      Symbol &left = symbols[top.place];
      if (left.size == 0 || left.next < 0) continue;
      Symbol &right = symbols[static_cast<std::size_t>(left.next)];
      const auto found = merges_.find(key(left.id, right.id));
      if (found == merges_.end() || found->second.id != top.id) continue;  // merged since
      left.id = top.id;
      left.size += right.size;
      right.size = 0;
      left.next = right.next;
      const auto place = static_cast<std::int64_t>(top.place);
      if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = place;
      add(left.previous, place);
      add(place, left.next);
    }
  }

  Vocabulary vocabulary_;
  bool whole_words_, fuses_ = false;
  std::int32_t unknown_ = Vocabulary::none;
  std::unordered_map<std::uint64_t, Merge> merges_;
};

}  // namespace

std::unique_ptr<const TokenModel> make_bpe(Part &part) { return std::make_unique<Bpe>(part); }

}  // namespace effbert::detail
