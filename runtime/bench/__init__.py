"""How fast a bundle answers on this machine: engines and operating points side by side."""
