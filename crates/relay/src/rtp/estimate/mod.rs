use crate::Micros;
use super::rtcp::TransportFeedback;
#[derive(Debug)]
pub struct Estimator;
#[derive(Debug)]
pub struct Probe { pub bps: u64, pub bytes: usize, pub packets_at_least: usize }
impl Estimator {
    pub fn new(_start_bps: u64, _now: Micros) -> Self { Self }
    pub fn sent(&mut self, _seq: u16, _bytes: usize, _now: Micros, _probe: bool) {}
    pub fn feedback(&mut self, _f: &TransportFeedback, _now: Micros) -> bool { false }
    pub fn report(&mut self, _l: u8, _r: Micros, _now: Micros) -> bool { false }
    pub fn set_demand(&mut self, _b: u64) {}
    pub fn bps(&self) -> u64 { 3_000_000 }
    pub fn pacing_bps(&self) -> u64 { 7_500_000 }
    pub fn next_probe(&mut self, _now: Micros) -> Option<Probe> { None }
    pub fn timeout(&self) -> Option<Micros> { None }
}
