// File names inside a bundle, and the one way to open them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace effbert::detail {

// Says why a name cannot be that of a file in a bundle ("is the name of a device on Windows"), or
// gives an empty string: one component of ASCII letters, digits, '.', '_' and '-'.
std::string name_problem(std::string_view name);

// An open file; closed by its destructor.
class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  File(File &&other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = -1; }
  File(const File &) = delete;
  File &operator=(const File &) = delete;
  File &operator=(File &&) = delete;
  ~File();

  std::uint64_t size() const;  // bytes
  // Reads from where it stands until the end, but no more than so many bytes. Throws BundleError.
  std::vector<unsigned char> read(std::uint64_t most) const;

 private:
  int descriptor_;
};

// Opens `folder/name`. Links are followed as long as they stay in the folder or, in a snapshot of a
// hub's cache, in the blobs of its model.
//
// Throws PathError if the name is not allowed, a link leads out, or it is no regular file;
// IntegrityError if there is no such file; BundleError if the system refuses to open it.
File open_file(const std::string &folder, std::string_view name);

}  // namespace effbert::detail
