#![no_std]
#![no_main]
//! Bring-up.
use boot::{
    board,
    clock::Clock,
    flash::MappedFlash,
    idle::Idle,
    retained,
    uart::{Console, Uart},
    watchdog,
};
use engine::flash::Flash;

#[cortex_m_rt::entry]
fn main() -> ! {
    let idle = Idle::start();
    let mut clock = Clock::start();
    let mut console = Console::start();
    let mut uart = Uart::start(board::SMP_UART);
    // SAFETY: the only call in this program.
    let mut flash = unsafe { MappedFlash::take() };
    console
        .text("app: up, report ")
        .number(retained::report().map_or(0, |r| r[3]))
        .end();
    let sector = flash.sector(board::SECONDARY.start).unwrap();
    flash.erase(sector).unwrap();
    flash.write(sector.start, b"12345678").unwrap();
    console
        .text(if flash.write(sector.start, b"1234").is_err() {
            "app: NOR refused"
        } else {
            "app: NOR forgave"
        })
        .end();
    watchdog::arm(2);
    let mut hang = false;
    loop {
        while let Some(byte) = uart.read() {
            match byte {
                b'p' => panic!(),
                b'f' => cortex_m::asm::udf(),
                b'r' => retained::reset(retained::Cause::Requested, 0),
                b'h' => hang = true,
                b't' => console.text("app: ms ").number(clock.now_ms() as u32).end(),
                other => uart.write(&[other]),
            }
        }
        clock.now_ms();
        if !hang {
            watchdog::feed();
        }
        idle.wait(&uart);
    }
}
