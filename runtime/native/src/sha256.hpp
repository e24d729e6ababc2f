// SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace effbert::detail {

class Sha256 {
 public:
  Sha256();
  void update(const void *data, std::size_t size);
  std::string hex();  // 64 lower-case digits; the object is used up

 private:
  void block(const unsigned char *data);

  std::array<std::uint32_t, 8> state_;
  std::array<unsigned char, 64> buffer_;
  std::size_t held_ = 0;
  std::uint64_t total_ = 0;
};

std::string sha256(const void *data, std::size_t size);

}  // namespace effbert::detail
