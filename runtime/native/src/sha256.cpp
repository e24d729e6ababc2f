#include "sha256.hpp"

#include <algorithm>
#include <cstring>

namespace effbert::detail {
namespace {

constexpr std::uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t turned(std::uint32_t x, int n) { return x >> n | x << (32 - n); }

}  // namespace

Sha256::Sha256()
    : state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
      buffer_{} {}

void Sha256::block(const unsigned char *data) {
  std::uint32_t w[64];
  for (int t = 0; t < 16; ++t, data += 4)
    w[t] = std::uint32_t{data[0]} << 24 | std::uint32_t{data[1]} << 16 |
           std::uint32_t{data[2]} << 8 | data[3];
  for (int t = 16; t < 64; ++t) {
    const std::uint32_t a = w[t - 15], b = w[t - 2];
    w[t] = w[t - 16] + (turned(a, 7) ^ turned(a, 18) ^ a >> 3) + w[t - 7] +
           (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (int t = 0; t < 64; ++t) {
    const std::uint32_t one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) +
                              ((e & f) ^ (~e & g)) + constants[t] + w[t];
    const std::uint32_t two =
        (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
  }
  const std::uint32_t added[8] = {a, b, c, d, e, f, g, h};
  for (int k = 0; k < 8; ++k) state_[k] += added[k];
}

void Sha256::update(const void *data, std::size_t size) {
  auto *bytes = static_cast<const unsigned char *>(data);
  total_ += size;
  while (size > 0) {
    if (held_ == 0 && size >= 64) {
      block(bytes);
      bytes += 64, size -= 64;
      continue;
    }
    const std::size_t taken = std::min<std::size_t>(64 - held_, size);
    std::memcpy(buffer_.data() + held_, bytes, taken);
    held_ += taken, bytes += taken, size -= taken;
    if (held_ == 64) {
      block(buffer_.data());
      held_ = 0;
    }
  }
}

std::string Sha256::hex() {
  const std::uint64_t bits = total_ * 8;
  const unsigned char mark = 0x80, nought = 0;
  update(&mark, 1);
  while (held_ != 56) update(&nought, 1);
  for (int k = 0; k < 8; ++k) {
    const auto byte = static_cast<unsigned char>(bits >> (56 - 8 * k));
    update(&byte, 1);
  }
  std::string text;
  for (const std::uint32_t word : state_)
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  return text;
}

std::string sha256(const void *data, std::size_t size) {
  Sha256 hash;
  hash.update(data, size);
  return hash.hex();
}

}  // namespace effbert::detail
