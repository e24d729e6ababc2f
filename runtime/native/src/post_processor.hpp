// The post-processors of tokenizer.json: where special tokens go, and token types.
#pragma once

#include <vector>

#include "part.hpp"

namespace effbert::detail {

// What a row consists of, in order.
struct Slot {
  enum class Kind { first, second, special };
  Kind kind = Kind::first;
  std::int32_t id = 0;  // of a special token
  std::int32_t type = 0;
};

struct PostProcessor {
  std::vector<Slot> single = {{Slot::Kind::first, 0, 0}};
  std::vector<Slot> pair = {{Slot::Kind::first, 0, 0}, {Slot::Kind::second, 0, 1}};
  bool trims = false;          // spaces do not belong to the place of a token
  bool prefix_space = false;   // of which the first one was added

  static std::size_t count_special(const std::vector<Slot> &slots);
};

// Throws TokenizerError for one that is not known exactly.
PostProcessor make_post_processor(Part part);

}  // namespace effbert::detail
