// Blocks of an ECP5, as far as our netlists use them; Yosys has models of its smaller cells, but none of these.
//
// After Lattice FPGA-TN-02204 (memory) and FPGA-TN-02205 (DSP). Pins that differ in a number are one port. What is read
// while the other port writes it is wrong on purpose, because the data sheet promises nothing. Both clocks of a memory
// are the same one.

// 18 kbit, which are 2048 octets of nine bits. A port that is 36 bits wide takes the upper half of what it writes from the
// other one's DI, and gives what it reads as that of port B: the lower half at DOA, the upper one at DOB.
module DP16KD #(
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18, REGMODE_A = "NOREG", REGMODE_B = "NOREG",
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", CLKAMUX = "CLKA", CLKBMUX = "CLKB", GSR = "ENABLED",
    parameter [20479:0] INITVAL = 0
) (
    input CLKA, CEA, OCEA, WEA, RSTA, CLKB, CEB, OCEB, WEB, RSTB,
    input [2:0] CSA, CSB,
    input [13:0] ADA, ADB,
    input [17:0] DIA, DIB,
    output [17:0] DOA, DOB
);
    // Addresses count bits; those of the ninth bits are not counted.
    localparam OCTETS_A = DATA_WIDTH_A < 18 ? 1 : DATA_WIDTH_A / 9;
    localparam OCTETS_B = DATA_WIDTH_B < 18 ? 1 : DATA_WIDTH_B / 9;
    localparam SPAN_A   = DATA_WIDTH_A < 9 ? DATA_WIDTH_A : 8 * OCTETS_A;
    localparam SPAN_B   = DATA_WIDTH_B < 9 ? DATA_WIDTH_B : 8 * OCTETS_B;
    localparam SPAN     = SPAN_A > SPAN_B ? SPAN_A : SPAN_B;

    generate
        if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000" || CLKAMUX != "CLKA" || CLKBMUX != "CLKB" || DATA_WIDTH_A == 36
            && WRITEMODE_A != "NORMAL" || DATA_WIDTH_B == 36 && REGMODE_A != REGMODE_B)
            ERROR_mode_without_a_model error();
    endgenerate

    reg [8:0] octets [0:2047];
    initial for (int i = 0; i < 1024; i = i + 1)
        {octets[2 * i + 1], octets[2 * i]} = INITVAL[20 * i +: 18];

    wire [35:0] di_a = {DIB, DIA}, di_b = {18'b0, DIB};
    wire [10:0] first_a = ADA[13:3] & ~(OCTETS_A - 1), first_b = ADB[13:3] & ~(OCTETS_B - 1);
    wire [2:0]  bit_a = ADA[2:0] & ~(SPAN_A - 1), bit_b = ADB[2:0] & ~(SPAN_B - 1);
    wire        write_a = CEA & WEA & (DATA_WIDTH_A < 18 | |ADA[OCTETS_A - 1:0]);
    wire        write_b = CEB & WEB & (DATA_WIDTH_B < 18 | |ADB[OCTETS_B - 1:0]);
    wire        meet = ((ADA ^ ADB) & ~(SPAN - 1)) == 0;

    reg [35:0] word_a, word_b;              // what the memory has, as a word
    always @* begin
        word_a = octets[first_a] >> bit_a;
        for (int i = 1; i < OCTETS_A; i = i + 1) word_a[9 * i +: 9] = octets[first_a + i];
        word_b = octets[first_b] >> bit_b;
        for (int i = 1; i < OCTETS_B; i = i + 1) word_b[9 * i +: 9] = octets[first_b + i];
    end

    reg [35:0] read_a = 0, read_b = 0, held_a = 0, held_b = 0;
    always @(posedge CLKA) begin
        if (RSTA) read_a <= 0;
        else if (CEA & ~WEA) read_a <= word_a ^ {36{meet & write_b}};
        else if (write_a & WRITEMODE_A == "READBEFOREWRITE") read_a <= word_a;
        else if (write_a & WRITEMODE_A == "WRITETHROUGH") read_a <= di_a;
        if (RSTA) held_a <= 0;
        else if (OCEA) held_a <= read_a;
        for (int i = 0; i < OCTETS_A; i = i + 1)
            if (write_a & (DATA_WIDTH_A < 18 | ADA[i])) begin
                if (DATA_WIDTH_A < 9) octets[first_a][bit_a +: DATA_WIDTH_A < 9 ? DATA_WIDTH_A : 9] <= di_a;
                else octets[first_a + i] <= di_a[9 * i +: 9];
            end
    end
    always @(posedge CLKB) begin
        if (RSTB) read_b <= 0;
        else if (CEB & ~WEB) read_b <= word_b ^ {36{meet & write_a}};
        else if (write_b & WRITEMODE_B == "READBEFOREWRITE") read_b <= word_b;
        else if (write_b & WRITEMODE_B == "WRITETHROUGH") read_b <= di_b;
        if (RSTB) held_b <= 0;
        else if (OCEB) held_b <= read_b;
        for (int i = 0; i < OCTETS_B; i = i + 1)
            if (write_b & (DATA_WIDTH_B < 18 | ADB[i])) begin
                if (DATA_WIDTH_B < 9) octets[first_b][bit_b +: DATA_WIDTH_B < 9 ? DATA_WIDTH_B : 9] <= di_b;
                else octets[first_b + i] <= di_b[9 * i +: 9];
            end
    end

    wire [35:0] shown_a = REGMODE_A == "OUTREG" ? held_a : read_a, shown_b = REGMODE_B == "OUTREG" ? held_b : read_b;
    assign DOA = DATA_WIDTH_B == 36 ? shown_b[17:0] : shown_a[17:0];
    assign DOB = DATA_WIDTH_B == 36 ? shown_b[35:18] : shown_b[17:0];
endmodule

// A product; registers of the block that are not used are wires.
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE", REG_INPUTA_CE = "CE0", REG_INPUTA_RST = "RST0",
    parameter REG_INPUTB_CLK = "NONE", REG_INPUTB_CE = "CE0", REG_INPUTB_RST = "RST0",
    parameter REG_PIPELINE_CLK = "NONE", REG_PIPELINE_CE = "CE0", REG_PIPELINE_RST = "RST0",
    parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "CE0", REG_OUTPUT_RST = "RST0"
) (
    input [17:0] A, B, C,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input [3:0] CLK, CE, RST,
    output [35:0] P
);
    wire [17:0] a, b;
    wire [37:0] product = $signed({SIGNEDA & a[17], a}) * $signed({SIGNEDB & b[17], b});
    wire [35:0] pipe;
    DspRegister #(18, REG_INPUTA_CLK, REG_INPUTA_CE, REG_INPUTA_RST) input_a(CLK, CE, RST, A, a);
    DspRegister #(18, REG_INPUTB_CLK, REG_INPUTB_CE, REG_INPUTB_RST) input_b(CLK, CE, RST, B, b);
    DspRegister #(36, REG_PIPELINE_CLK, REG_PIPELINE_CE, REG_PIPELINE_RST) pipeline(CLK, CE, RST, product[35:0], pipe);
    DspRegister #(36, REG_OUTPUT_CLK, REG_OUTPUT_CE, REG_OUTPUT_RST) outputs(CLK, CE, RST, pipe, P);
endmodule

// Controls are chosen by name; the last two bits of its last character are the number.
module DspRegister #(
    parameter WIDTH = 18, parameter [31:0] CLOCK = "NONE", parameter [23:0] ENABLE = "CE0", parameter [31:0] RESET = "RST0"
) (
    input [3:0] CLK, CE, RST,
    input [WIDTH - 1:0] d,
    output [WIDTH - 1:0] q
);
    generate
        if (CLOCK == "NONE") assign q = d;
        else begin
            reg [WIDTH - 1:0] held = 0;
            always @(posedge CLK[CLOCK[1:0]])
                if (RST[RESET[1:0]]) held <= 0;
                else if (CE[ENABLE[1:0]]) held <= d;
            assign q = held;
        end
    endgenerate
endmodule
