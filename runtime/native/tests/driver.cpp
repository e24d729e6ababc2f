// Answers requests from standard input, so that a test compares many cases in one process.
//
// A request is a letter, the size of what follows (four bytes, little endian) and that. An answer is
// its size and its bytes, of which the first is '+', or '-' before a message.
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "manifest.hpp"
#include "paths.hpp"
#include "sha256.hpp"

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

std::string answer(char what, std::string_view given) {
  using namespace effbert;
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
