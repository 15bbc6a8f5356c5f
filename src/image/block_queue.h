// BlockQueue: a bounded queue of large blocks between one producer and one consumer thread. Blocks are reused; their
// memory goes back to the system with the queue (malloc would keep it).
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <span>
#include <vector>

#include "base/result.h"
#include "codec/inflate.h"

namespace crisp::image {

class BlockQueue final : public codec::ByteSink {
 public:
  BlockQueue(size_t block_bytes, size_t blocks);
  ~BlockQueue() override;

  // Producer. Room waits for a free block; empty after Close. A block goes to the consumer when it is nearly full.
  std::span<char> Room() override;
  Result<> Filled(size_t bytes) override;
  void End();  // hands over what is left: nothing more comes

  // Consumer: the next block, valid until the next call. Empty: the end, or closed.
  std::span<const char> Next();
  // Either side: nothing is wanted any more.
  void Close();

 private:
  void HandOver();

  const size_t block_bytes_;
  char* memory_ = nullptr;
  size_t memory_bytes_ = 0;

  char* filling_ = nullptr;  // producer's
  size_t filled_ = 0;
  char* reading_ = nullptr;  // consumer's

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<char*> free_;
  std::deque<std::span<char>> full_;
  bool ended_ = false;
  bool closed_ = false;
};

}  // namespace crisp::image
