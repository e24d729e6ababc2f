// A C++17 program that uses the header-only classes of an installed effbert.
#include <effbert.hpp>

int main() {
  try {
    effbert::Session session("no such folder");
  } catch (const effbert::Error &error) {
    return error.status == EFFBERT_BUNDLE ? 0 : 1;
  }
  return 1;
}
