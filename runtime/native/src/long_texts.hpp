// Look at no more of a very long text than decides which tokens the model reads.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>

#include "pipeline.hpp"

namespace effbert::detail {

class TextCutter {
 public:
  // `kept` tokens are read; `left`: the last ones, not the first.
  TextCutter(const Pipeline &pipeline, std::size_t kept, bool left);

  // Gives the text itself, or a part that has the same tokens and more than are read; `index` of it
  // is for messages.
  //
  // Throws InputError if it is longer than 524,288 characters that hold too few tokens.
  std::string_view cut(std::size_t index, std::string_view text) const;
  // Of two texts that are both too long, parts keep their order by numbers of tokens.
  std::pair<std::string_view, std::string_view> cut_pair(std::size_t index, std::string_view first,
                                                         std::string_view second) const;

 private:
  struct Cut {
    std::string_view text;
    std::size_t tokens;
  };
  Cut decided(std::size_t index, std::string_view text) const;
  std::string_view part(std::string_view text, std::size_t characters) const;
  std::size_t count(std::string_view text) const;

  const Pipeline &pipeline_;
  std::size_t kept_, first_look_;
  bool left_;
};

}  // namespace effbert::detail
