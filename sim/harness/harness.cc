// Plays the clock of a generated machine in batches, and is its link, its memory and its observer.
//
// Streams keep Amaranth's rules: what is offered is held until it is taken. All inputs of a cycle
// are decided before its clock edge, from what was true after the last one, so that each cycle
// takes two evaluations: one lets the inputs settle, the other is the edge.
//
// The build defines HAS_MEMORY, HAS_TRACE, HAS_BUSY and HAS_RESET, each 0 or 1, and CHANNELS, the
// number of AXI4 ports, by the ports of the top; WAVEFORM and COVERAGE. Verilator writes `__` in a name as `___05F`.

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
#if COVERAGE
#include "verilated_cov.h"
#endif

namespace {

// Says in which cycles a stream pauses.
class Stall {
public:
    Stall(uint64_t seed, uint64_t stream, uint32_t probability)
        : state_{mix(seed * STREAMS + stream) | 1}, probability_{probability} {}

    bool operator()() { return probability_ && draw() < probability_; }

    // A number from 0 to `highest`.
    uint64_t upto(uint32_t highest) { return highest ? draw() * (uint64_t(highest) + 1) >> 32 : 0; }

private:
    static constexpr uint64_t STREAMS = 128;

    uint64_t draw() {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003)
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_ >> 32;
    }

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

#if HAS_MEMORY || CHANNELS

enum class Turn { NONE, PAUSE, FREE };

// Time of a memory: its clock, its rows, its refresh.
class Pace {
public:
    // `index` of `count` memories, whose phases are spread.
    Pace(const Parameters &p, uint64_t stream, uint64_t index = 0, uint64_t count = 1)
        : p_{p}, stall_{p.seed, stream, p.stall_memory}, credit_{p.rate_of * index / count},
          phase_{p.refresh_period * index / count} {}

    // A cycle of the machine passes: whether it is one of the memory, and whether that is free to give a
    // beat: the one at `beat`, if there is a `next` one.
    Turn operator()(bool next, uint64_t beat) {
        credit_ += p_.rate;
        if (credit_ < p_.rate_of)
            return Turn::NONE;
        credit_ -= p_.rate_of;
        if (p_.refresh_period) {
            const bool refreshing = phase_ < p_.refresh_pause;
            if (++phase_ == p_.refresh_period)
                phase_ = 0;
            if (refreshing)
                return Turn::PAUSE;
        }
        if (!next)
            return Turn::FREE;
        if (p_.row_beats) {
            if (beat - row_ >= p_.row_beats) {
                row_ = beat - beat % p_.row_beats;
                opening_ = p_.row_pause;
            }
            if (opening_) {
                opening_--;
                return Turn::PAUSE;
            }
        }
        return stall_() ? Turn::PAUSE : Turn::FREE;
    }

private:
    const Parameters &p_;
    Stall stall_;
    uint64_t credit_, phase_;
    uint64_t row_ = uint64_t(1) << 63;      // first beat of the open row; none is open
    uint64_t opening_ = 0;
};

// Beats that were asked for.
struct Request {
    uint64_t beat, count, ready_at;
};

#endif

#if CHANNELS

constexpr size_t PART_BYTES = BEAT_BYTES / CHANNELS;

// A memory behind an AXI4 port: bursts of reads are answered in order, writes are single.
struct Axi {
    IData *araddr;
    CData *arlen, *arvalid, *arready;
    void  *rdata;
    CData *rlast, *rvalid, *rready;
    IData *awaddr;
    CData *awvalid, *awready;
    void  *wdata;
    CData *wvalid, *wready, *bvalid, *bready;
};

class Channel {
public:
    Channel(const Parameters &p, uint64_t index, const Axi &axi, std::vector<uint8_t> &memory)
        : p_{p}, axi_{axi}, index_{index}, memory_{memory}, pace_{p, stream(0), index, CHANNELS},
          stall_ar_{p.seed, stream(1), p.stall_memory}, stall_aw_{p.seed, stream(2), p.stall_memory},
          stall_w_{p.seed, stream(3), p.stall_memory}, stall_b_{p.seed, stream(4), p.stall_memory},
          jitter_{p.seed, stream(5), 0} {}

    void drive(Counters &counters, bool busy) {
        const bool next = !giving_ && !bursts_.empty() && counters.cycles >= bursts_.front().ready_at;
        const Turn turn = pace_(next, next ? bursts_.front().beat : 0);
        if (turn == Turn::FREE && next) {
            giving_ = true;
            const size_t place = bursts_.front().beat * BEAT_BYTES + index_ * PART_BYTES;
            if (place + PART_BYTES <= memory_.size())
                std::memcpy(axi_.rdata, &memory_[place], PART_BYTES);
            else
                std::memset(axi_.rdata, 0, PART_BYTES);
            *axi_.rlast = bursts_.front().count == 1;
        } else if (busy) {
            counters.source_idle   += turn == Turn::FREE;
            counters.source_paused += turn == Turn::PAUSE;
        }
        if (!answering_ && !answers_.empty() && counters.cycles >= answers_.front() && !stall_b_())
            answering_ = true;
        *axi_.rvalid  = giving_;
        *axi_.bvalid  = answering_;
        *axi_.arready = bursts_.size() < BURSTS && !stall_ar_();
        *axi_.awready = addresses_.size() < BURSTS && !stall_aw_();
        *axi_.wready  = data_.size() < BURSTS && !stall_w_();
    }

    void sample(Counters &counters) {
        if (*axi_.rready) {
            if (giving_) {
                giving_ = false;
                if (index_ == 0)
                    counters.beats++;
                bursts_.front().beat++;
                if (--bursts_.front().count == 0)
                    bursts_.pop_front();
            } else if (!bursts_.empty() && index_ == 0) {
                counters.withheld++;
            }
        }
        if (*axi_.arvalid && *axi_.arready) {
            // As an interconnect would, it gives the answers of one burst after those of the other.
            const uint64_t latency = p_.latency + jitter_.upto(p_.jitter);
            bursts_.push_back({*axi_.araddr / PART_BYTES, uint64_t(*axi_.arlen) + 1, counters.cycles + latency});
            if (index_ == 0)
                counters.requests++;
        }
        if (answering_ && *axi_.bready) {
            answering_ = false;
            answers_.pop_front();
        }
        if (*axi_.awvalid && *axi_.awready)
            addresses_.push_back(*axi_.awaddr / PART_BYTES);
        if (*axi_.wvalid && *axi_.wready) {
            const auto *octets = static_cast<const uint8_t *>(axi_.wdata);
            data_.emplace_back(octets, octets + PART_BYTES);
        }
        while (!addresses_.empty() && !data_.empty()) {
            const size_t place = addresses_.front() * BEAT_BYTES + index_ * PART_BYTES;
            if (place + PART_BYTES > memory_.size())
                memory_.resize((addresses_.front() + 1) * BEAT_BYTES);
            std::memcpy(&memory_[place], data_.front().data(), PART_BYTES);
            addresses_.pop_front();
            data_.pop_front();
            answers_.push_back(counters.cycles + p_.latency + jitter_.upto(p_.jitter));
            if (index_ == 0)
                counters.loads++;
        }
    }

    void reset() {
        bursts_.clear();
        addresses_.clear();
        data_.clear();
        answers_.clear();
        giving_ = answering_ = false;
        *axi_.arready = *axi_.awready = *axi_.wready = *axi_.rvalid = *axi_.bvalid = 0;
    }

private:
    // The first streams are those of the link and of a memory without channels.
    uint64_t stream(uint64_t which) const { return 8 + 6 * index_ + which; }

    static constexpr size_t BURSTS = 32;

    const Parameters &p_;
    Axi axi_;
    uint64_t index_;
    std::vector<uint8_t> &memory_;
    Pace pace_;
    Stall stall_ar_, stall_aw_, stall_w_, stall_b_, jitter_;
    std::deque<Request> bursts_;
    std::deque<uint64_t> addresses_, answers_;
    std::deque<std::vector<uint8_t>> data_;
    bool giving_ = false, answering_ = false;
};

#define AXI_PORT(port, c) &top_->axi___05F##c##___05F##port
#define AXI(c) Axi{AXI_PORT(araddr, c), AXI_PORT(arlen, c), AXI_PORT(arvalid, c), AXI_PORT(arready, c), \
                   AXI_PORT(rdata, c), AXI_PORT(rlast, c), AXI_PORT(rvalid, c), AXI_PORT(rready, c),    \
                   AXI_PORT(awaddr, c), AXI_PORT(awvalid, c), AXI_PORT(awready, c),                     \
                   AXI_PORT(wdata, c), AXI_PORT(wvalid, c), AXI_PORT(wready, c),                        \
                   AXI_PORT(bvalid, c), AXI_PORT(bready, c)}

#endif

class Machine {
public:
    explicit Machine(const Parameters &p)
        : p_{p}, stall_in_{p.seed, 0, p.stall_in}, stall_out_{p.seed, 1, p.stall_out}
#if HAS_MEMORY
        , pace_{p_, 3}, stall_play_{p.seed, 2, p.stall_memory}, stall_load_{p.seed, 4, p.stall_memory},
          jitter_{p.seed, 5, 0}
#endif
    {
#if WAVEFORM
        context_->traceEverOn(true);
#endif
        top_ = std::make_unique<Vmachine>(context_.get(), "");
#if !WAVEFORM
        top_->eval();       // with what happens once
#endif
#if CHANNELS
        const Axi ports[] = {
            AXI(0), AXI(1),
#if CHANNELS > 2
            AXI(2), AXI(3),
#endif
#if CHANNELS > 4
            AXI(4), AXI(5), AXI(6), AXI(7),
#endif
#if CHANNELS > 8
            AXI(8), AXI(9), AXI(10), AXI(11), AXI(12), AXI(13), AXI(14), AXI(15),
#endif
        };
        for (size_t index = 0; index < CHANNELS; index++)
            channels_.emplace_back(p_, index, ports[index], memory_);
#endif
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
            if (recording)
                inputs_.push_back(Inputs::of(*top_));
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
#if CHANNELS
        for (Channel &channel : channels_)
            channel.reset();
#endif
        while (cycles--) {
            settle();
            edge();
        }
#if HAS_RESET
        // The shell hands the reset on one cycle later.
        top_->rst = 0;
        settle();
        edge();
#endif
    }

    uint64_t replay(const Machine &recorded) {
        uint64_t octets = 0;
        for (const Inputs &inputs : recorded.inputs_) {
            inputs.set(*top_);
            settle();
            octets += top_->link_o___05Fvalid & top_->link_o___05Fready;
            edge();
        }
        return octets;
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

#if COVERAGE
    void coverage(const char *path) { context_->coveragep()->write(path); }
#endif

    bool tracing = false;
    bool recording = false;
    std::vector<uint32_t> events;

    const Counters &counters() const { return counters_; }

private:
    void settle() {
        top_->clk = 0;
        eval();
        dump(0);
    }

    void edge() {
        top_->clk = 1;
        eval();
        dump(1);
        counters_.cycles++;
    }

    void eval() {
#if WAVEFORM
        top_->eval();
#else
        // Past queues of messages and of deleted objects, of which a machine has none: their locks take time.
        Vmachine___024root___eval(top_->rootp);
#endif
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

    // Whether a run is under way; without that port, always.
    bool busy() const {
#if HAS_BUSY
        return top_->busy;
#else
        return true;
#endif
    }

    void drive_memory() {
#if HAS_MEMORY
        const bool next = !offering_beat_ && !requests_.empty()
                          && counters_.cycles >= requests_.front().ready_at;
        const uint64_t beat = next ? requests_.front().beat : 0;
        const Turn turn = pace_(next, beat);
        if (turn == Turn::FREE && next) {
            offering_beat_ = true;
            read(beat * BEAT_BYTES, reinterpret_cast<uint8_t *>(&top_->beats___05Fpayload),
                 BEAT_BYTES);
        } else if (turn != Turn::NONE && busy()) {
            counters_.source_idle   += turn == Turn::FREE;
            counters_.source_paused += turn == Turn::PAUSE;
        }
        top_->beats___05Fvalid = offering_beat_;
        top_->play___05Fready  = requests_.size() < REQUESTS && !stall_play_();
        top_->load___05Fready  = !stall_load_();
#endif
#if CHANNELS
        const bool in_step = busy();
        for (Channel &channel : channels_)
            channel.drive(counters_, in_step);
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
                requests_.push_back({play & 0xffffffff, play >> 32,
                                     counters_.cycles + p_.latency + jitter_.upto(p_.jitter)});
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
#if CHANNELS
        for (Channel &channel : channels_)
            channel.sample(counters_);
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

    struct Inputs {
        CData link_valid, link_payload, link_ready;
#if HAS_MEMORY
        CData beats_valid, play_ready, load_ready;
        uint8_t beats_payload[BEAT_BYTES];
#endif

        static Inputs of(const Vmachine &top) {
            Inputs in;
            in.link_valid   = top.link_i___05Fvalid;
            in.link_payload = top.link_i___05Fpayload;
            in.link_ready   = top.link_o___05Fready;
#if HAS_MEMORY
            in.beats_valid  = top.beats___05Fvalid;
            in.play_ready   = top.play___05Fready;
            in.load_ready   = top.load___05Fready;
            std::memcpy(in.beats_payload, &top.beats___05Fpayload, BEAT_BYTES);
#endif
            return in;
        }

        void set(Vmachine &top) const {
            top.link_i___05Fvalid   = link_valid;
            top.link_i___05Fpayload = link_payload;
            top.link_o___05Fready   = link_ready;
#if HAS_MEMORY
            top.beats___05Fvalid    = beats_valid;
            top.play___05Fready     = play_ready;
            top.load___05Fready     = load_ready;
            std::memcpy(&top.beats___05Fpayload, beats_payload, BEAT_BYTES);
#endif
        }
    };

    Parameters p_;
    Counters counters_{};
    std::vector<Inputs> inputs_;
    std::unique_ptr<VerilatedContext> context_ = std::make_unique<VerilatedContext>();
    std::unique_ptr<Vmachine> top_;
    std::vector<uint8_t> memory_;
    bool offering_octet_ = false;
    Stall stall_in_, stall_out_;

#if HAS_MEMORY
    // As many as a memory controller would queue: the latency of a request then passes while the
    // one before it is served.
    static constexpr size_t REQUESTS = 4;

    Pace pace_;
    Stall stall_play_, stall_load_, jitter_;
    std::deque<Request> requests_;
    bool offering_beat_ = false;
#endif

#if CHANNELS
    std::vector<Channel> channels_;
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

void machine_record(void *machine) { of(machine).recording = true; }

uint64_t machine_replay(void *machine, const void *recorded) {
    return of(machine).replay(*static_cast<const Machine *>(recorded));
}

void machine_counters(void *machine, Counters *counters) { *counters = of(machine).counters(); }

void machine_waveform(void *machine, const char *path, uint64_t first, uint64_t last) {
#if WAVEFORM
    of(machine).waveform(path, first, last);
#else
    (void)machine, (void)path, (void)first, (void)last;
#endif
}

void machine_coverage(void *machine, const char *path) {
#if COVERAGE
    of(machine).coverage(path);
#else
    (void)machine, (void)path;
#endif
}

void machine_waveform_close(void *machine) {
#if WAVEFORM
    of(machine).waveform_close();
#else
    (void)machine;
#endif
}
