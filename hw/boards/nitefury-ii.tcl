# The settings of the memory controller, mig.prj, are those of the board's own sample project.
if {![file exists $here/mig.prj]} {
    error "Put mig.prj of the NiteFury II sample project of RHS Research beside this script: it holds the timing and the pins of the DDR3"
}
set ddr [create_bd_cell -type ip -vlnv xilinx.com:ip:mig_7series ddr]
set_property CONFIG.XML_INPUT_FILE $here/mig.prj $ddr
foreach interface {DDR3 SYS_CLK} { make_bd_intf_pins_external [get_bd_intf_pins ddr/$interface] }
set pcie [create_bd_cell -type ip -vlnv xilinx.com:ip:xdma pcie]
set_property -dict {CONFIG.mode_selection Advanced CONFIG.pl_link_cap_max_link_width X4
    CONFIG.pl_link_cap_max_link_speed 5.0_GT/s CONFIG.axi_data_width 128_bit CONFIG.axilite_master_en true
    CONFIG.axilite_master_size 64 CONFIG.axilite_master_scale Kilobytes} $pcie
set refclk [create_bd_cell -type ip -vlnv xilinx.com:ip:util_ds_buf refclk]
set_property CONFIG.C_BUF_TYPE IBUFDSGTE $refclk
connect_bd_net [get_bd_pins refclk/IBUF_OUT] [get_bd_pins pcie/sys_clk]
make_bd_intf_pins_external [get_bd_intf_pins refclk/CLK_IN_D] -name pcie_refclk
make_bd_intf_pins_external [get_bd_intf_pins pcie/pcie_mgt] -name pcie_mgt
make_bd_pins_external [get_bd_pins pcie/sys_rst_n] -name pcie_rst_n
set reset [create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset]
connect_bd_net [get_bd_pins ddr/ui_clk] [get_bd_pins reset/slowest_sync_clk] [get_bd_pins machine/aclk]
connect_bd_net [get_bd_pins pcie/axi_aresetn] [get_bd_pins reset/ext_reset_in]
connect_bd_net [get_bd_pins ddr/mmcm_locked] [get_bd_pins reset/dcm_locked]
connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins machine/aresetn] [get_bd_pins ddr/aresetn]
connect_bd_intf_net [get_bd_intf_pins machine/m_axi_0] [get_bd_intf_pins ddr/S_AXI]
set bridge [create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect bridge]
set_property -dict {CONFIG.NUM_SI 1 CONFIG.NUM_CLKS 2} $bridge
connect_bd_intf_net [get_bd_intf_pins pcie/M_AXI_LITE] [get_bd_intf_pins bridge/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins bridge/M00_AXI] [get_bd_intf_pins machine/s_axi]
connect_bd_net [get_bd_pins pcie/axi_aclk] [get_bd_pins bridge/aclk]
connect_bd_net [get_bd_pins ddr/ui_clk] [get_bd_pins bridge/aclk1]
connect_bd_net [get_bd_pins pcie/axi_aresetn] [get_bd_pins bridge/aresetn]
