# Ports 0, 8, 16 and 24 of the memory, each at pseudo channels of its own.
set hbm [create_bd_cell -type ip -vlnv xilinx.com:ip:hbm hbm]
set_property -dict {CONFIG.USER_HBM_DENSITY 8GB CONFIG.USER_SWITCH_ENABLE_00 TRUE CONFIG.USER_SWITCH_ENABLE_01 TRUE} $hbm
apply_bd_automation -rule xilinx.com:bd_rule:board -config {Board_Interface {default_100mhz_clk}} [get_bd_pins hbm/HBM_REF_CLK_0]
connect_bd_net [get_bd_pins hbm/HBM_REF_CLK_0] [get_bd_pins hbm/HBM_REF_CLK_1] [get_bd_pins hbm/APB_0_PCLK] [get_bd_pins hbm/APB_1_PCLK]
connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins hbm/APB_0_PRESET_N] [get_bd_pins hbm/APB_1_PRESET_N]
for {set index 0} {$index < $channels} {incr index} {
    set port [format "%02d" [expr {8 * $index}]]
    connect_bd_net [get_bd_pins clocks/clk_out1] [get_bd_pins hbm/AXI_${port}_ACLK]
    connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins hbm/AXI_${port}_ARESET_N]
    connect_bd_intf_net [get_bd_intf_pins machine/m_axi_$index] [get_bd_intf_pins hbm/SAXI_$port]
}
