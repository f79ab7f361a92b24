// Plays the clock of a generated machine in batches, and is its link, its memory and its observer.
//
// Streams keep Amaranth's rules: what is offered is held until it is taken. All inputs of a cycle
// are decided before its clock edge, from what was true after the last one, so that each cycle
// takes two evaluations: one lets the inputs settle, the other is the edge.
//
// The build defines HAS_MEMORY, HAS_TRACE and HAS_RESET, each 0 or 1, by the ports of the top, and
// WAVEFORM. Verilator writes `__` in a name as `___05F`.

#include "harness.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "Vmachine.h"
#include "verilated.h"
#if WAVEFORM
#include "verilated_vcd_c.h"
#endif

namespace {

// Says in which cycles a stream pauses.
class Stall {
public:
    Stall(uint64_t seed, uint64_t stream, uint32_t probability)
        : state_{mix(seed * 8 + stream) | 1}, probability_{probability} {}

    bool operator()() {
        if (!probability_)
            return false;
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003)
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return uint32_t(state_ >> 32) < probability_;
    }

private:
    // Finalizer of splitmix64 (Steele et al., 2014): spreads seeds that lie close together.
    static uint64_t mix(uint64_t x) {
        x += 0x9e3779b97f4a7c15;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        return x ^ x >> 31;
    }

    uint64_t state_;
    uint32_t probability_;
};

class Machine {
public:
    explicit Machine(const Parameters &p)
        : p_{p}, stall_in_{p.seed, 0, p.stall_in}, stall_out_{p.seed, 1, p.stall_out}
#if HAS_MEMORY
        , stall_play_{p.seed, 2, p.stall_memory}, stall_beats_{p.seed, 3, p.stall_memory},
          stall_load_{p.seed, 4, p.stall_memory}
#endif
    {
#if WAVEFORM
        context_->traceEverOn(true);
#endif
        top_ = std::make_unique<Vmachine>(context_.get(), "");
    }

    ~Machine() { top_->final(); }

    void run(const uint8_t *in, size_t n_in, size_t &consumed, uint8_t *out, size_t cap,
             size_t &produced, uint64_t max_cycles, size_t n_out) {
        consumed = produced = 0;
        const uint64_t end = counters_.cycles + max_cycles;
        while ((consumed < n_in || produced < n_out) && produced < cap && counters_.cycles < end) {
            if (!offering_octet_ && consumed < n_in && !stall_in_()) {
                offering_octet_ = true;
                top_->link_i___05Fpayload = in[consumed];
            }
            top_->link_i___05Fvalid = offering_octet_;
            const bool take = !stall_out_();
            top_->link_o___05Fready = take;
            drive_memory();
            settle();
            const bool taken = offering_octet_ && top_->link_i___05Fready;
            if (take && top_->link_o___05Fvalid)
                out[produced++] = top_->link_o___05Fpayload;
            sample_memory();
            sample_trace();
            edge();
            if (taken) {
                offering_octet_ = false;
                consumed++;
            }
        }
        counters_.octets_in  += consumed;
        counters_.octets_out += produced;
    }

    void reset(uint64_t cycles) {
#if HAS_RESET
        top_->rst = 1;
#endif
        offering_octet_ = false;
        top_->link_i___05Fvalid = 0;
        top_->link_o___05Fready = 0;
#if HAS_MEMORY
        requests_.clear();
        offering_beat_ = false;
        top_->play___05Fready  = 0;
        top_->beats___05Fvalid = 0;
        top_->load___05Fready  = 0;
#endif
        while (cycles--) {
            settle();
            edge();
        }
#if HAS_RESET
        top_->rst = 0;
#endif
    }

    void write(uint64_t offset, const uint8_t *octets, uint64_t n) {
        if (offset + n > memory_.size())
            memory_.resize(offset + n);
        std::memcpy(memory_.data() + offset, octets, n);
    }

    void read(uint64_t offset, uint8_t *octets, uint64_t n) const {
        const uint64_t size = memory_.size();
        const uint64_t have = offset < size ? std::min(n, size - offset) : 0;
        if (have)
            std::memcpy(octets, memory_.data() + offset, have);
        std::memset(octets + have, 0, n - have);
    }

#if WAVEFORM
    void waveform(const char *path, uint64_t first, uint64_t last) {
        path_ = path;
        first_ = first;
        last_ = last;
        top_->trace(&vcd_, 99);
    }

    void waveform_close() {
        if (vcd_.isOpen())
            vcd_.close();
    }
#endif

    bool tracing = false;
    std::vector<uint32_t> events;

    const Counters &counters() const { return counters_; }

private:
    void settle() {
        top_->clk = 0;
        top_->eval();
        dump(0);
    }

    void edge() {
        top_->clk = 1;
        top_->eval();
        dump(1);
        counters_.cycles++;
    }

    void dump(uint64_t half) {
#if WAVEFORM
        if (counters_.cycles < first_ || counters_.cycles > last_)
            return;
        if (!vcd_.isOpen())
            vcd_.open(path_.c_str());
        vcd_.dump(counters_.cycles * 10 + half * 5);
        if (half && counters_.cycles == last_)
            vcd_.close();
#else
        (void)half;
#endif
    }

    void drive_memory() {
#if HAS_MEMORY
        refreshing_ = false;
        if (p_.refresh_period) {
            refreshing_ = phase_ < p_.refresh_pause;
            if (++phase_ == p_.refresh_period)
                phase_ = 0;
        }
        if (!offering_beat_ && !requests_.empty() && counters_.cycles >= requests_.front().ready_at
                && !refreshing_ && !stall_beats_()) {
            offering_beat_ = true;
            const uint64_t beat = requests_.front().beat;
            read(beat * BEAT_BYTES, reinterpret_cast<uint8_t *>(&top_->beats___05Fpayload),
                 BEAT_BYTES);
        }
        top_->beats___05Fvalid = offering_beat_;
        top_->play___05Fready  = requests_.size() < REQUESTS && !stall_play_();
        top_->load___05Fready  = !stall_load_();
#endif
    }

    void sample_memory() {
#if HAS_MEMORY
        static_assert(sizeof top_->beats___05Fpayload == BEAT_BYTES, "beats are whole words");
        if (top_->beats___05Fready) {
            if (offering_beat_) {
                offering_beat_ = false;
                counters_.beats++;
                Request &request = requests_.front();
                request.beat++;
                if (--request.count == 0)
                    requests_.pop_front();
            } else if (!requests_.empty()) {
                counters_.withheld++;
            }
        }
        if (top_->play___05Fvalid && top_->play___05Fready) {
            const uint64_t play = top_->play___05Fpayload;    // start in the low half, then count
            counters_.requests++;
            if (play >> 32)
                requests_.push_back({play & 0xffffffff, play >> 32, counters_.cycles + p_.latency});
        }
        if (top_->load___05Fvalid && top_->load___05Fready) {
            uint8_t load[sizeof top_->load___05Fpayload];     // address, then the beat
            uint32_t address;
            std::memcpy(load, &top_->load___05Fpayload, sizeof load);
            std::memcpy(&address, load, sizeof address);
            write(uint64_t(address) * BEAT_BYTES, load + sizeof address, BEAT_BYTES);
            counters_.loads++;
        }
#endif
    }

    void sample_trace() {
#if HAS_TRACE
        if (tracing && top_->trace___05Fvalid) {
            constexpr size_t words = (sizeof top_->trace___05Fevent + 3) / 4;
            const size_t place = events.size();
            events.resize(place + words);
            std::memcpy(events.data() + place, &top_->trace___05Fevent,
                        sizeof top_->trace___05Fevent);
            counters_.events++;
        }
#endif
    }

    Parameters p_;
    Counters counters_{};
    std::unique_ptr<VerilatedContext> context_ = std::make_unique<VerilatedContext>();
    std::unique_ptr<Vmachine> top_;
    std::vector<uint8_t> memory_;
    bool offering_octet_ = false;
    Stall stall_in_, stall_out_;

#if HAS_MEMORY
    struct Request {
        uint64_t beat, count, ready_at;
    };
    // As many as a memory controller would queue: the latency of a request then passes while the
    // one before it is served.
    static constexpr size_t REQUESTS = 4;

    Stall stall_play_, stall_beats_, stall_load_;
    std::deque<Request> requests_;
    uint32_t phase_ = 0;
    bool refreshing_ = false;
    bool offering_beat_ = false;
#endif

#if WAVEFORM
    VerilatedVcdC vcd_;
    std::string path_;
    uint64_t first_ = 1, last_ = 0;
#endif
};

Machine &of(void *machine) { return *static_cast<Machine *>(machine); }

}  // namespace

void *machine_new(const Parameters *parameters) { return new Machine(*parameters); }

void machine_delete(void *machine) { delete &of(machine); }

void machine_reset(void *machine, uint64_t cycles) { of(machine).reset(cycles); }

void machine_run(void *machine, const uint8_t *in, size_t n_in, size_t *consumed, uint8_t *out,
                 size_t cap, size_t *produced, uint64_t max_cycles, size_t n_out) {
    of(machine).run(in, n_in, *consumed, out, cap, *produced, max_cycles, n_out);
}

int machine_memory_write(void *machine, uint64_t offset, const uint8_t *octets, uint64_t n) {
    try {
        of(machine).write(offset, octets, n);
    } catch (const std::bad_alloc &) {
        return 0;
    }
    return 1;
}

void machine_memory_read(void *machine, uint64_t offset, uint8_t *octets, uint64_t n) {
    of(machine).read(offset, octets, n);
}

void machine_trace(void *machine, int on) { of(machine).tracing = on; }

uint64_t machine_trace_words(void *machine) { return of(machine).events.size(); }

void machine_trace_take(void *machine, uint32_t *words) {
    std::vector<uint32_t> &events = of(machine).events;
    std::copy(events.begin(), events.end(), words);
    events.clear();
}

void machine_counters(void *machine, Counters *counters) { *counters = of(machine).counters(); }

void machine_waveform(void *machine, const char *path, uint64_t first, uint64_t last) {
#if WAVEFORM
    of(machine).waveform(path, first, last);
#else
    (void)machine, (void)path, (void)first, (void)last;
#endif
}

void machine_waveform_close(void *machine) {
#if WAVEFORM
    of(machine).waveform_close();
#else
    (void)machine;
#endif
}
