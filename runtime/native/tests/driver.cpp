// Answers requests from standard input, so that a test compares many cases in one process.
//
// A request is a letter, the size of what follows (four bytes, little endian) and that. An answer is
// its size and its bytes, of which the first is '+', or '-' before a message.
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "manifest.hpp"
#include "paths.hpp"
#include "sha256.hpp"
#include "tokenizer.hpp"

namespace {

std::uint32_t read_size(std::string_view bytes) {
  std::uint32_t size = 0;
  for (std::size_t k = 0; k < 4; ++k)
    size |= std::uint32_t{static_cast<unsigned char>(bytes[k])} << 8 * k;
  return size;
}

bool read_exactly(std::string &bytes) {
  return std::fread(bytes.data(), 1, bytes.size(), stdin) == bytes.size();
}

void write_answer(const std::string &answer) {
  for (int shift = 0; shift < 32; shift += 8)
    std::putchar(static_cast<int>(answer.size() >> shift & 255));
  std::fwrite(answer.data(), 1, answer.size(), stdout);
  std::fflush(stdout);
}

std::optional<effbert::detail::Tokenizer> tokenizer;

// Two sizes and five flags, then tokenizer.json.
void configure(std::string_view given) {
  effbert::detail::TokenizerSettings settings;
  settings.max_length = read_size(given);
  settings.min_length = read_size(given.substr(4));
  const auto flag = [&](std::size_t index) { return given[8 + index] != 0; };
  settings.truncate_left = flag(0);
  settings.special_tokens_in_text = flag(1);
  settings.pairs_only = flag(2);
  settings.texts_only = flag(3);
  tokenizer.reset();
  tokenizer.emplace(given.substr(12), settings);
}

void append(std::string &text, std::int64_t number) {
  for (int shift = 0; shift < 32; shift += 8) text += static_cast<char>(number >> shift & 255);
}

// Truncated or not, then seven numbers for each token.
std::string spelled(const effbert::detail::Encoding &row) {
  std::string text = row.truncated ? "+1" : "+0";
  const auto words = row.word_map();
  for (std::size_t k = 0; k < row.ids.size(); ++k)
    for (const std::int64_t number :
         {std::int64_t{row.ids[k]}, std::int64_t{row.type_ids[k]}, std::int64_t{row.word_ids[k]},
          std::int64_t{row.sequence_ids[k]}, std::int64_t{row.starts[k]},
          std::int64_t{row.ends[k]}, words[k]})
      append(text, number);
  return text;
}

std::string answer(char what, std::string_view given) {
  using namespace effbert::detail;
  switch (what) {
    case 'm': return "+" + std::to_string(read_manifest(given).segments.size());
    case 'h': return "+" + sha256(given.data(), given.size());
    case 'n': return "+" + name_problem(given);
    case 'r': {  // a file of a folder: the name, a zero, the folder
      const std::size_t zero = given.find('\0');
      const auto data = open_file(std::string(given.substr(zero + 1)), given.substr(0, zero))
                            .read(std::uint64_t{1} << 20);
      return "+" + std::string(data.begin(), data.end());
    }
    case 't': configure(given); return "+";
    case 'e': return spelled(tokenizer.value().encode(0, given));
    case 'p': {
      const std::uint32_t size = read_size(given);
      return spelled(tokenizer.value().encode(0, given.substr(4, size), given.substr(4 + size)));
    }
    case 's': {
      const std::string *token = tokenizer.value().token(read_size(given));
      return token == nullptr ? "-none" : "+" + *token;
    }
    default: return "-no such request";
  }
}

}  // namespace

int main() {
  std::string head(5, '\0');
  while (read_exactly(head)) {
    std::string given(read_size(std::string_view(head).substr(1)), '\0');
    if (!read_exactly(given)) return 1;
    std::string found;
    try {
      found = answer(head[0], given);
    } catch (const std::exception &error) {
      found = std::string("-") + error.what();
    }
    write_answer(found);
  }
  return 0;
}
