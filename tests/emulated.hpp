// Just enough CUDA to run OpenEquivariance's kernels on a CPU: the lanes of a warp are coroutines that take turns at
// every __syncwarp and shuffle. Warps run one after the other, so atomics are plain.
#include <ucontext.h>

#include <algorithm>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(threads)

using std::min;

struct Index {
    unsigned x;
};
static Index blockIdx, threadIdx, blockDim, gridDim;
alignas(16) static char s[1 << 20];

constexpr int LANES = 32, STACK = 1 << 18;
static ucontext_t warp, lanes[LANES];
static bool done[LANES];
static int lane;
static long double slots[LANES];
static std::function<void()> work;

inline void __syncwarp() { swapcontext(&lanes[lane], &warp); }

template <class T>
T __shfl_down_sync(unsigned, T value, int offset) {
    const int own = lane;
    slots[own] = value;
    __syncwarp();
    const T found = own + offset < LANES ? T(slots[own + offset]) : value;
    __syncwarp();
    return found;
}

template <class T>
void atomicAdd(T* to, T value) { *to += value; }

static void start() {
    work();
    done[lane] = true;
}

static void launch(const int* grid, std::function<void()> kernel) {
    static std::vector<char> stacks(LANES * STACK);
    work = kernel;
    gridDim.x = grid[0], blockDim.x = grid[1];
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
        std::fill(s, s + sizeof(s), char(0x7f));  // what is read before it is written shows
        for (unsigned first = 0; first < blockDim.x; first += LANES) {
            for (int i = 0; i < LANES; i++) {
                getcontext(&lanes[i]);
                lanes[i].uc_stack.ss_sp = stacks.data() + i * STACK;
                lanes[i].uc_stack.ss_size = STACK;
                lanes[i].uc_link = &warp;
                makecontext(&lanes[i], start, 0);
                done[i] = false;
            }
            while (!std::all_of(done, done + LANES, [](bool one) { return one; }))
                for (lane = 0; lane < LANES; lane++)
                    if (!done[lane]) {
                        threadIdx.x = first + lane;
                        swapcontext(&warp, &lanes[lane]);
                    }
        }
    }
}

KERNELS

static IRREP_T* at(void** tensors, int i) { return static_cast<IRREP_T*>(tensors[i]); }

using Grid = const int*;
using Size = unsigned long;

extern "C" {
void value(Grid first, Grid, Grid, void** t, void* rows, void* cols, Size edges, Size nodes) {
    const ConvData c{rows, cols, edges, nodes};
    launch(first, [&] { forward(at(t, 0), at(t, 1), at(t, 2), at(t, 3), c, nullptr); });
}

void gradient(Grid, Grid second, Grid, void** t, void* rows, void* cols, Size edges, Size nodes) {
    const ConvData c{rows, cols, edges, nodes};
    launch(second, [&] {
        backward(at(t, 0), at(t, 4), at(t, 1), at(t, 5), at(t, 2), at(t, 6), at(t, 3), c, nullptr, nullptr);
    });
}

void second(Grid first, Grid, Grid third, void** t, void* rows, void* cols, Size edges, Size nodes) {
    const ConvData c{rows, cols, edges, nodes};
    const auto call = [&](auto kernel) {
        kernel(at(t, 0), at(t, 1), at(t, 2), at(t, 3), at(t, 4), at(t, 5), at(t, 6), at(t, 7), at(t, 8), at(t, 9),
               at(t, 10), c, nullptr, nullptr);
    };
    launch(first, [&] { call(double_backward_A); });
    launch(third, [&] { call(double_backward_B); });
}
}
