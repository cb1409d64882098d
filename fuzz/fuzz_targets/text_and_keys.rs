#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(ampoule_fuzz::text_and_keys::run);
