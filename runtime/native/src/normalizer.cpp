#include "normalizer.hpp"

#include <algorithm>

#include "unicode.hpp"

namespace effbert::detail {
namespace {

template <typename Keep>
void filter(Characters &text, Keep keep) {
  text.erase(std::remove_if(text.begin(), text.end(),
                            [&](const Character &c) { return !keep(c.code); }),
             text.end());
}

// Replaces every character by those that `change` appends.
template <typename Append>
void expand(Characters &text, Append append) {
  Characters changed;
  changed.reserve(text.size());
  std::vector<char32_t> becomes;
  for (const Character &c : text) {
    becomes.clear();
    append(c.code, becomes);
    for (const char32_t code : becomes) changed.push_back({code, c.from, c.to});
  }
  text.swap(changed);
}

void lower(Characters &text) {
  const Unicode &unicode = Unicode::tables();
  expand(text, [&](char32_t c, std::vector<char32_t> &to) { unicode.lower(c, to); });
}

// What decomposition makes of a text; marks are sorted by their classes (Unicode, section 3.11).
std::vector<Change> decomposed(const Characters &text, bool compatibly) {
  const Unicode &unicode = Unicode::tables();
  std::vector<Change> changes;
  changes.reserve(text.size());
  std::vector<char32_t> becomes;
  for (const Character &c : text) {
    becomes.clear();
    unicode.decompose(c.code, compatibly, becomes);
    for (std::size_t k = 0; k < becomes.size(); ++k)
      changes.emplace_back(becomes[k], k > 0 ? 1 : 0);
  }
  const auto mark_class = [&](const Change &c) { return unicode.combining_class(c.first); };
  const auto starts = [&](const Change &c) { return mark_class(c) == 0; };
  for (auto at = changes.begin(); at != changes.end();) {
    const auto begin = std::find_if_not(at, changes.end(), starts);
    at = std::find_if(begin, changes.end(), starts);
    std::stable_sort(begin, at, [&](const Change &a, const Change &b) {
      return mark_class(a) < mark_class(b);
    });
  }
  return changes;
}

// Joins what was decomposed and sorted.
std::vector<Change> composed(const std::vector<Change> &changes) {
  const Unicode &unicode = Unicode::tables();
  const auto replaced = [](const Change &c) { return c.second > 0 ? 0 : 1 - c.second; };
  std::vector<Change> joined;
  std::size_t starter = changes.size();  // in `joined`; none yet
  int last = 0;                          // class of what stands between it and the next
  for (const Change &c : changes) {
    const int own = unicode.combining_class(c.first);
    if (starter < joined.size()) {
      Change &first = joined[starter];
      const bool adjacent = starter + 1 == joined.size();
      const char32_t both =
          adjacent || (last < own && last != 0) ? unicode.compose(first.first, c.first) : 0;
      if (both != 0) {
        const int count = replaced(first) + replaced(c);
        first = {both, 1 - count};
        continue;
      }
    }
    if (own == 0) starter = joined.size();
    last = own;
    joined.push_back(c);
  }
  return joined;
}

class Sequence : public Normalizer {
 public:
  explicit Sequence(Part &part) {
    for (Part &inner : part.parts("normalizers")) inner_.push_back(make_normalizer(inner));
  }
  void apply(Characters &text) const override {
    for (const auto &inner : inner_) inner->apply(text);
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> inner_;
};

class Bert : public Normalizer {
 public:
  explicit Bert(Part &part)
      : clean_(part.flag("clean_text")),
        chinese_(part.flag("handle_chinese_chars")),
        lower_(part.flag("lowercase")),
        strip_(part.flag("strip_accents", lower_)) {}

  void apply(Characters &text) const override {
    const Unicode &unicode = Unicode::tables();
    if (clean_) {
      filter(text, [&](char32_t c) { return !unicode.is(c, bert_removed); });
      for (Character &c : text)
        if (unicode.is(c.code, bert_space)) c.code = ' ';
    }
    if (chinese_)
      expand(text, [&](char32_t c, std::vector<char32_t> &to) {
        if (unicode.is(c, chinese)) to.insert(to.end(), {U' ', c, U' '});
        else to.push_back(c);
      });
    if (strip_) {
      text = transformed(text, decomposed(text, false));
      filter(text, [&](char32_t c) { return !unicode.is(c, bert_mark); });
    }
    if (lower_) lower(text);
  }

 private:
  bool clean_, chinese_, lower_, strip_;
};

class Form : public Normalizer {
 public:
  Form(bool compatibly, bool joined) : compatibly_(compatibly), composed_(joined) {}
  void apply(Characters &text) const override {
    const auto is_ascii = [](const Character &c) { return c.code < 0x80; };
    if (std::all_of(text.begin(), text.end(), is_ascii)) return;
    std::vector<Change> changes = decomposed(text, compatibly_);
    if (composed_) changes = composed(changes);
    text = transformed(text, changes);
  }

 private:
  bool compatibly_, composed_;
};

class StripAccents : public Normalizer {
 public:
  void apply(Characters &text) const override {
    const Unicode &unicode = Unicode::tables();
    filter(text, [&](char32_t c) { return !unicode.is(c, combining); });
  }
};

class Lowercase : public Normalizer {
 public:
  void apply(Characters &text) const override { lower(text); }
};

class Strip : public Normalizer {
 public:
  explicit Strip(Part &part) : left_(part.flag("strip_left")), right_(part.flag("strip_right")) {}
  void apply(Characters &text) const override {
    const Unicode &unicode = Unicode::tables();
    const auto solid = [&](const Character &c) { return !unicode.is(c.code, space); };
    if (right_) text.erase(std::find_if(text.rbegin(), text.rend(), solid).base(), text.end());
    if (left_) text.erase(text.begin(), std::find_if(text.begin(), text.end(), solid));
  }

 private:
  bool left_, right_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(Part &part) : before_(to_characters(part.text("prepend"))) {}
  void apply(Characters &text) const override {
    for (auto c = before_.rbegin(); c != before_.rend(); ++c) prepend(text, c->code);
  }

 private:
  Characters before_;
};

std::unique_ptr<const Normalizer> made(Part &part) {
  const std::string &type = part.type();
  if (type == "Sequence") return std::make_unique<Sequence>(part);
  if (type == "BertNormalizer") return std::make_unique<Bert>(part);
  if (type == "NFD") return std::make_unique<Form>(false, false);
  if (type == "NFC") return std::make_unique<Form>(false, true);
  if (type == "NFKD") return std::make_unique<Form>(true, false);
  if (type == "NFKC") return std::make_unique<Form>(true, true);
  if (type == "StripAccents") return std::make_unique<StripAccents>();
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "Strip") return std::make_unique<Strip>(part);
  if (type == "Prepend") return std::make_unique<Prepend>(part);
  if (type == "Replace") return make_replace(part);
  if (type == "Precompiled") return make_charsmap(part);
  part.refuse_type();
}

}  // namespace

std::unique_ptr<const Normalizer> make_normalizer(Part part) {
  auto normalizer = made(part);
  part.finish();
  return normalizer;
}

}  // namespace effbert::detail
