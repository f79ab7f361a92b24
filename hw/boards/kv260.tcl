# Ports HP0 to HP3 have 128 bits each.
set ps [create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e ps]
apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {apply_board_preset 1} $ps
set_property -dict {CONFIG.PSU__USE__M_AXI_GP0 0 CONFIG.PSU__USE__M_AXI_GP1 0 CONFIG.PSU__USE__M_AXI_GP2 1
    CONFIG.PSU__USE__S_AXI_GP2 1 CONFIG.PSU__USE__S_AXI_GP3 1 CONFIG.PSU__USE__S_AXI_GP4 1
    CONFIG.PSU__USE__S_AXI_GP5 1 CONFIG.PSU__SAXIGP2__DATA_WIDTH 128 CONFIG.PSU__SAXIGP3__DATA_WIDTH 128
    CONFIG.PSU__SAXIGP4__DATA_WIDTH 128 CONFIG.PSU__SAXIGP5__DATA_WIDTH 128
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ 200} $ps
set reset [create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset]
connect_bd_net [get_bd_pins ps/pl_clk0] [get_bd_pins reset/slowest_sync_clk] [get_bd_pins machine/aclk]
connect_bd_net [get_bd_pins ps/pl_resetn0] [get_bd_pins reset/ext_reset_in]
connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins machine/aresetn]
for {set index 0} {$index < $channels} {incr index} {
    connect_bd_net [get_bd_pins ps/pl_clk0] [get_bd_pins ps/saxihp${index}_fpd_aclk]
    connect_bd_intf_net [get_bd_intf_pins machine/m_axi_$index] [get_bd_intf_pins ps/S_AXI_HP${index}_FPD]
}
set bridge [create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect bridge]
set_property CONFIG.NUM_SI 1 $bridge
connect_bd_net [get_bd_pins ps/pl_clk0] [get_bd_pins ps/maxihpm0_lpd_aclk] [get_bd_pins bridge/aclk]
connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins bridge/aresetn]
connect_bd_intf_net [get_bd_intf_pins ps/M_AXI_HPM0_LPD] [get_bd_intf_pins bridge/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins bridge/M00_AXI] [get_bd_intf_pins machine/s_axi]
