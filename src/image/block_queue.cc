#include "image/block_queue.h"

#include <sys/mman.h>

#include <new>

namespace crisp::image {

// The decoder copies its 32 KiB of history at each call: a rest smaller than this is not worth one.
constexpr size_t kRestMin = 64 << 10;

BlockQueue::BlockQueue(size_t block_bytes, size_t blocks) : block_bytes_(block_bytes), memory_bytes_(block_bytes * blocks) {
  void* memory = mmap(nullptr, memory_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    closed_ = true;  // Room is empty: the producer gets an error
    memory_bytes_ = 0;
    return;
  }
  memory_ = static_cast<char*>(memory);
  for (size_t i = 0; i < blocks; ++i) free_.push_back(memory_ + i * block_bytes);
}

BlockQueue::~BlockQueue() {
  if (memory_ != nullptr) munmap(memory_, memory_bytes_);
}

std::span<char> BlockQueue::Room() {
  if (filling_ == nullptr) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || !free_.empty(); });
    if (closed_) return {};
    filling_ = free_.back();
    free_.pop_back();
    filled_ = 0;
  }
  return {filling_ + filled_, block_bytes_ - filled_};
}

Result<> BlockQueue::Filled(size_t bytes) {
  filled_ += bytes;
  if (block_bytes_ - filled_ < std::min(kRestMin, block_bytes_ / 4 + 1)) HandOver();
  return {};
}

void BlockQueue::HandOver() {
  {
    std::lock_guard lock(mutex_);
    full_.push_back({filling_, filled_});
  }
  filling_ = nullptr;
  changed_.notify_all();
}

void BlockQueue::End() {
  if (filling_ != nullptr && filled_ > 0) HandOver();
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
}

std::span<const char> BlockQueue::Next() {
  std::unique_lock lock(mutex_);
  if (reading_ != nullptr) {
    free_.push_back(reading_);
    reading_ = nullptr;
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return closed_ || ended_ || !full_.empty(); });
  if (closed_ || full_.empty()) return {};
  std::span<char> block = full_.front();
  full_.pop_front();
  reading_ = block.data();
  return block;
}

void BlockQueue::Close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

}  // namespace crisp::image
