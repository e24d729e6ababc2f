// Unigram: of all ways to cut a word, the one whose tokens have the best scores together.
#include <algorithm>
#include <cmath>
#include <limits>

#include "token_model.hpp"

namespace effbert::detail {
namespace {

constexpr double unknown_penalty = 10;  // below the worst score

// A score as the tokenizers library reads it: its JSON reader rounds the digits and then their
// quotient, which is not always the nearest double, and ties between ways are decided by that.
double score_of(std::string_view text) {
  const bool negative = text[0] == '-';
  std::uint64_t digits = 0;
  int exponent = 0;
  bool point = false, full = false;
  std::size_t at = negative ? 1 : 0;
  for (; at < text.size() && text[at] != 'e' && text[at] != 'E'; ++at) {
    if (text[at] == '.') {
      point = true;
      continue;
    }
    const auto digit = static_cast<std::uint64_t>(text[at] - '0');
    full = full || digits > (std::numeric_limits<std::uint64_t>::max() - digit) / 10;
    if (!full) digits = digits * 10 + digit;
    if (full ? !point : point) exponent += full ? 1 : -1;
  }
  if (at < text.size()) {
    const bool shrinks = text[++at] == '-';
    int power = 0;
    for (at += shrinks || text[at] == '+' ? 1 : 0; at < text.size(); ++at)
      power = std::min(power * 10 + (text[at] - '0'), 10'000);
    exponent += shrinks ? -power : power;
  }
  auto value = static_cast<double>(digits);
  for (; exponent < -308 && value != 0; exponent += 308) value /= 1e308;
  const double power = std::pow(10.0, std::min(std::abs(exponent), 308));
  if (value != 0) value = exponent < 0 ? value / power : value * power;
  return negative ? -value : value;
}

// Children of one node lie side by side, sorted by their bytes.
class Trie {
 public:
  static constexpr std::int32_t none = -1;

  // Spellings in byte order, with their ids.
  explicit Trie(const std::vector<std::pair<std::string_view, std::int32_t>> &sorted) {
    nodes_.push_back({0, 0, 0, none});
    fill(0, sorted, 0, sorted.size(), 0);
  }

  // Calls with length in bytes and id of every token that the text starts with, the shortest first.
  template <typename Call>
  void prefixes(std::string_view text, Call call) const {
    std::uint32_t node = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
      const auto byte = static_cast<unsigned char>(text[at]);
      const auto begin = nodes_.begin() + nodes_[node].first;
      const auto end = begin + nodes_[node].count;
      const auto found = std::lower_bound(
          begin, end, byte, [](const Node &a, unsigned char b) { return a.byte < b; });
      if (found == end || found->byte != byte) return;
      node = static_cast<std::uint32_t>(found - nodes_.begin());
      if (found->id != none) call(at + 1, found->id);
    }
  }

 private:
  struct Node {
    std::uint32_t first;  // child
    std::uint16_t count;
    unsigned char byte;
    std::int32_t id;
  };
  using Sorted = std::vector<std::pair<std::string_view, std::int32_t>>;

  void fill(std::uint32_t node, const Sorted &sorted, std::size_t begin, std::size_t end,
            std::size_t depth) {
    if (begin < end && sorted[begin].first.size() == depth) nodes_[node].id = sorted[begin++].second;
    const auto first = static_cast<std::uint32_t>(nodes_.size());
    std::vector<std::size_t> starts;
    for (std::size_t at = begin; at < end; ++at) {
      const auto byte = static_cast<unsigned char>(sorted[at].first[depth]);
      if (!starts.empty() && nodes_.back().byte == byte) continue;
      starts.push_back(at);
      nodes_.push_back({0, 0, byte, none});
    }
    nodes_[node].first = first;
    nodes_[node].count = static_cast<std::uint16_t>(starts.size());
    starts.push_back(end);
    for (std::size_t k = 0; k + 1 < starts.size(); ++k)
      fill(first + static_cast<std::uint32_t>(k), sorted, starts[k], starts[k + 1], depth + 1);
  }

  std::vector<Node> nodes_;
};

class Unigram : public TokenModel {
 public:
  explicit Unigram(Part &part) : Unigram(part, spellings_of(part)) {}

  const Vocabulary &vocabulary() const override { return vocabulary_; }

  void tokenize(const Characters &word, std::vector<Token> &to) const override {
    std::string text;
    std::vector<std::uint32_t> places;  // of characters, in bytes
    for (const Character &c : word) {
      places.push_back(static_cast<std::uint32_t>(text.size()));
      append_utf8(text, c.code);
    }
    places.push_back(static_cast<std::uint32_t>(text.size()));
    const std::vector<Best> best = best_paths(text, places);
    std::vector<std::pair<std::uint32_t, std::uint32_t>> parts;  // in bytes, the last first
    bool after_unknown = false;
    for (auto end = static_cast<std::uint32_t>(text.size()); end > 0;) {
      const Best &node = best[end];
      if (node.id == unknown_ && after_unknown) parts.back().first = node.start;
      else parts.emplace_back(node.start, end);
      after_unknown = node.id == unknown_;
      end = node.start;
    }
    std::uint32_t at = 0;
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      const auto id = vocabulary_.find(
          std::string_view(text).substr(part->first, part->second - part->first));
      const std::uint32_t begin = at;
      while (places[at] < part->second) ++at;
      to.push_back({id == Vocabulary::none ? unknown_ : id, begin, at});
    }
  }

 private:
  struct Best {
    double score = 0;
    std::uint32_t start = 0;
    std::int32_t id = Vocabulary::none;
    bool reached = false;
  };

  Unigram(Part &part, const std::vector<std::string> &spellings)
      : vocabulary_(spellings), trie_(sorted_of(spellings)) {
    const Json &items = part["vocab"];
    double worst = std::numeric_limits<double>::infinity();
    for (const Json &item : items.items) {
      scores_.push_back(score_of(item.items[1].text));
      worst = std::min(worst, scores_.back());
    }
    unknown_score_ = worst - unknown_penalty;
    unknown_ = part.id("unk_id");
    if (static_cast<std::size_t>(unknown_) >= spellings.size())
      part.refuse("has an unk_id outside its vocab");
    if (part.flag("byte_fallback", false)) part.refuse("has byte_fallback");
  }

  static std::vector<std::string> spellings_of(Part &part) {
    const Json &items = part["vocab"];
    if (!items.is(Json::Kind::array)) part.refuse("has a vocab that is no list");
    std::vector<std::string> spellings;
    for (const Json &item : items.items) {
      if (item.items.size() != 2 || !item.items[0].is(Json::Kind::string) ||
          !item.items[1].is_number())
        part.refuse("has a token without a score");
      if (item.items[0].text.empty() || item.items[0].text.size() > 1024)
        part.refuse("has an empty token, or one of more than 1,024 bytes");
      spellings.push_back(item.items[0].text);
    }
    return spellings;
  }

  static std::vector<std::pair<std::string_view, std::int32_t>> sorted_of(
      const std::vector<std::string> &spellings) {
    std::vector<std::pair<std::string_view, std::int32_t>> sorted;
    for (std::size_t id = 0; id < spellings.size(); ++id)
      sorted.emplace_back(spellings[id], static_cast<std::int32_t>(id));
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto &a, const auto &b) { return a.first < b.first; });
    std::vector<std::pair<std::string_view, std::int32_t>> distinct;
    for (const auto &entry : sorted) {
      if (!distinct.empty() && distinct.back().first == entry.first) distinct.back() = entry;
      else distinct.push_back(entry);
    }
    return distinct;
  }

  // For every place where a character ends, the last token of the best way there.
  std::vector<Best> best_paths(const std::string &text,
                               const std::vector<std::uint32_t> &places) const {
    std::vector<Best> best(text.size() + 1);
    for (std::size_t k = 0; k + 1 < places.size(); ++k) {
      const std::uint32_t start = places[k], next = places[k + 1];
      const double here = best[start].score;
      bool alone = false;
      const auto offer = [&](std::uint32_t end, double score, std::int32_t id) {
        Best &node = best[end];
        if (!node.reached || score + here > node.score) node = {score + here, start, id, true};
      };
      trie_.prefixes(std::string_view(text).substr(start), [&](std::size_t size, std::int32_t id) {
        offer(start + static_cast<std::uint32_t>(size), scores_[static_cast<std::size_t>(id)], id);
        alone = alone || start + size == next;
      });
      if (!alone) offer(next, unknown_score_, unknown_);
    }
    return best;
  }

  Vocabulary vocabulary_;
  Trie trie_;
  std::vector<double> scores_;
  double unknown_score_ = 0;
  std::int32_t unknown_ = 0;
};

}  // namespace

std::unique_ptr<const TokenModel> make_unigram(Part &part) {
  return std::make_unique<Unigram>(part);
}

}  // namespace effbert::detail
