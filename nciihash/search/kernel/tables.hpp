// Building the tables of a segment, and sharing work among threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nciihash {

// Memory in huge pages where the system has them: a search touches a thousand places at random.
template <typename T>
T* reserve(size_t count) {
    size_t bytes = count * sizeof(T), page = size_t{1} << 21;
    bytes = (bytes + 63) / 64 * 64;
    bool huge = bytes >= page;
    size_t size = huge ? (bytes + page - 1) / page * page : bytes < 64 ? 64 : bytes;
    void* data = std::aligned_alloc(huge ? page : 64, size);
    if (!data) throw std::bad_alloc();
#if defined(__linux__)
    if (huge) madvise(data, bytes, MADV_HUGEPAGE);
#endif
    return static_cast<T*>(data);
}

template <typename T>
using Memory = std::unique_ptr<T[], void (*)(void*)>;

// How many threads this process may run at once.
int threads_allowed();

// Run `work(k)` for k in [0, count) on several threads; the first exception comes back.
template <typename Work>
void spread(int count, int threads, Work work) {
    std::atomic<int> next{0};
    std::exception_ptr failure;
    std::mutex guard;
    auto loop = [&] {
        for (int k; (k = next++) < count;) {
            try {
                work(k);
            } catch (...) {
                std::lock_guard<std::mutex> lock(guard);
                if (!failure) failure = std::current_exception();
            }
        }
    };
    std::vector<std::thread> pool;
    for (int t = 1; t < threads && t < count; t++) {
        try {
            pool.emplace_back(loop);
        } catch (const std::system_error&) {
            break;  // no more threads to be had: those that run do the work
        }
    }
    loop();
    for (std::thread& thread : pool) thread.join();
    if (failure) std::rethrow_exception(failure);
}

// Rows whose tables are made, and the form of those.
struct Source {
    const uint8_t* rows;  // count * chunks * 2 bytes, scrambled
    uint32_t count;
    int chunks, stride, key_bits, words;  // words: of an offset, see View in kernel.hpp
};

// Fill `offsets`, `refs` and `sigs`, which are as long as View in kernel.hpp says.
void build_tables(const Source& source, int threads, uint32_t* offsets, uint32_t* refs,
                  uint16_t* sigs);

}  // namespace nciihash
