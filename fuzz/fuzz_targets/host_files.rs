#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(ampoule_fuzz::host_files::run);
