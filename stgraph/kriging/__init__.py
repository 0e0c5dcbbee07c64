"""Values where there is no sensor: interpolation along roads, and what hidden sensors teach."""
