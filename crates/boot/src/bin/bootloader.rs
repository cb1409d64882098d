#![no_std]
#![no_main]
//! Bring-up.
use boot::{retained, start::Application, uart::Console};

#[cortex_m_rt::entry]
fn main() -> ! {
    let last = retained::begin();
    let mut console = Console::start();
    console.text("boot: reset: ").text(last.name()).end();
    match Application::in_primary() {
        Some(application) => {
            console.text("boot: starting").end();
            retained::hand_over([7; retained::REPORT_WORDS]);
            application.start()
        }
        None => {
            console.text("boot: nothing to start").end();
            loop {
                cortex_m::asm::wfi();
            }
        }
    }
}
